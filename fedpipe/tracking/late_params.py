"""Params that a run gets after its training: those of an evaluation, and the rules of a promotion."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient


def log_late_params(client: "MlflowClient", run_id: str, params: Mapping[str, str]) -> None:
    """Logs params that the run may have already.

    MLflow never changes a param, and the same weights may be evaluated again in another way: then the param keeps the
    first value, and a tag of the same name has the last one. To be called within `connection.translated`.

    Args:
      client: Of the store.
      run_id: The run.
      params: Flat, as `fedpipe.tracking.run_events.flat_params` makes them.
    """
    from mlflow.entities import Param, RunTag

    data = client.get_run(run_id).data
    new = [Param(key, value) for key, value in params.items() if key not in data.params]
    others = [
        RunTag(key, value) for key, value in params.items() if data.tags.get(key, data.params.get(key, value)) != value
    ]
    if new or others:
        client.log_batch(run_id, params=new, tags=others)
