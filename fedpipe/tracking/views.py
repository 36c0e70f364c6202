"""How the MLflow UI shows this project's runs: the figures to compare by, as columns of the runs table.

MLflow 3 opens an experiment with its pages for language models, and a runs table without params and metrics. A view
that is kept as a tag of the experiment (the UI's own "share view") and named in the address shows what is there.
"""

import json
from urllib.parse import urlencode

_KEY = "fedpipe"
_METRICS = (
    *("test/accuracy", "test/loss", "test/clients/worst", "test/clients/percentile_10"),
    *("validation/accuracy", "train/accuracy", "train/loss", "train/clients/worst"),
)
_PARAMS = (
    "partition.scheme",
    "partition.quantity",
    "partition.clients",
    "train.model",
    "train.rounds",
    "train.clients_per_round",
    "train.client_optimizer.learning_rate",
)
_COLUMNS = [*(f"metrics.`{name}`" for name in _METRICS), *(f"params.`{name}`" for name in _PARAMS)]

# Tags that the UI needs, besides the columns that it fills in itself.
TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    f"mlflow.sharedViewState.{_KEY}": json.dumps({"selectedColumns": _COLUMNS}),
}


def runs_table(experiment_id: str, chart: bool = False) -> str:
    """The address of an experiment's runs below the UI's own, as a table or as charts of the metrics per round."""
    query = {"workflowType": "machine_learning", "viewStateShareKey": _KEY}
    return f"/#/experiments/{experiment_id}/runs?{urlencode(query | ({'compareRunsMode': 'CHART'} if chart else {}))}"
