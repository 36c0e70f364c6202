"""The partition as tables: who has which sample, and how many of each label a client has."""

import numpy as np
import pandas as pd

from fedpipe.allocation.counts import LEFT_OUT


def assignment_table(labels: np.ndarray, assignment: np.ndarray) -> pd.DataFrame:
    """One row a training sample: sample (index in the data set), label, client; client is empty if left out."""
    client = pd.Series(assignment, dtype="Int64").mask(assignment == LEFT_OUT)
    return pd.DataFrame({"sample": np.arange(len(labels)), "label": labels, "client": client})


def label_table(labels: np.ndarray, assignment: np.ndarray, clients: int, classes: int) -> pd.DataFrame:
    """Clients x labels: how many samples of each label each client has; index client, columns the labels."""
    used = assignment != LEFT_OUT
    counts = np.zeros((clients, classes), np.int64)
    np.add.at(counts, (assignment[used], labels[used]), 1)
    return pd.DataFrame(counts, index=pd.RangeIndex(clients, name="client"), columns=range(classes))


def client_test_table(labels: np.ndarray, tested: list[np.ndarray], drawn_from: str) -> pd.DataFrame:
    """One row a client and test sample: client, ``drawn_from`` (a sample's index there), label.

    Args:
      labels: The labels of what is drawn from.
      tested: For each client the indices of its test samples.
      drawn_from: The column's name, ``test_sample`` or ``training_sample``.
    """
    samples = np.concatenate([np.empty(0, np.int64), *tested])
    clients = np.repeat(np.arange(len(tested)), [len(mine) for mine in tested])
    return pd.DataFrame({"client": clients, drawn_from: samples, "label": labels[samples]})


def samples_by_client(assignment: np.ndarray, clients: int) -> list[np.ndarray]:
    """For each client the indices of its samples, ascending."""
    used = np.flatnonzero(assignment != LEFT_OUT)
    by_client = used[np.argsort(assignment[used], kind="stable")]
    sizes = np.bincount(assignment[used], minlength=clients)
    return np.split(by_client, np.cumsum(sizes)[:-1])
