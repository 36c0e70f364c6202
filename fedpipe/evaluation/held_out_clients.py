"""The global model on clients that never trained: their rows of metrics/clients.csv, and figures of all of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedpipe.config.judge import Evaluate
from fedpipe.datasets.shards import Manifest
from fedpipe.evaluation.clients import accuracy_per_client
from fedpipe.evaluation.fairness import spread
from fedpipe.evaluation.personal import accuracy_of_own, fine_tuned
from fedpipe.networks.network import Network, Weights

_WHOLE = ("train_samples", "test_samples", "cluster", "held_out_samples", "held_out_test_samples")


def measured(
    network: Network, weights: Weights, shards: Path, tests: Path, settings: Evaluate
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A row per client, and the spread of their accuracies.

    ``held_out_accuracy`` is that on all samples of the client. With test samples of the client's own, there is also the
    accuracy on these of the global model, and of the model that the client fine-tunes on its other samples
    (``evaluate.personalise``), which is the figure of a client that joins after the training.

    Args:
      network: The model.
      weights: The global weights.
      shards: The folder of the clients' samples.
      tests: That of their own test samples; of no client if there are none.
      settings: Section evaluate of params.yaml.
    """
    clients, with_tests = Manifest.read(shards), Manifest.read(tests)
    table = accuracy_per_client(network, weights, shards, clients.clients, settings.batch_size)
    rows = table.assign(client=clients.client_numbers).rename(
        columns={"samples": "held_out_samples", "accuracy": "held_out_accuracy"}
    )
    figures = {"samples": clients.samples, **spread(rows["held_out_accuracy"].to_numpy())}
    if not with_tests.clients:
        return rows, figures
    tested = accuracy_per_client(network, weights, tests, with_tests.clients, settings.batch_size)
    kinds = {"global": tested["accuracy"].to_numpy()}
    rows = rows.assign(held_out_test_samples=tested["samples"], held_out_test_accuracy=kinds["global"])
    if settings.personalise.epochs:
        own = fine_tuned(network, weights, shards, settings.personalise)
        kinds["personalised"] = accuracy_of_own(network, own, tests, settings.batch_size, "held out")
        rows = rows.assign(held_out_personalised_accuracy=kinds["personalised"])
    return rows, figures | {"own_tests": {kind: spread(values) for kind, values in kinds.items()}}


def joined(trained: pd.DataFrame, held_out: pd.DataFrame) -> pd.DataFrame:
    """One table of all clients by their numbers; what a client does not have is empty, and counts stay whole."""
    table = pd.concat([trained, held_out], ignore_index=True).sort_values("client", ignore_index=True)
    whole = [name for name in _WHOLE if name in table]
    return table.astype(dict.fromkeys(whole, "Int64")).astype({"client": np.int64})
