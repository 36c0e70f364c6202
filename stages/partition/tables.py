"""The partition as tables: who has which sample, and how many of each label a client has."""

import numpy as np
import pandas as pd

from stages.partition.schemes import LEFT_OUT


def assignment_table(labels: np.ndarray, assignment: np.ndarray) -> pd.DataFrame:
    """One row a training sample: sample (index in the data set), label, client; client is empty if left out."""
    client = pd.Series(assignment, dtype="Int64").mask(assignment == LEFT_OUT)
    return pd.DataFrame({"sample": np.arange(len(labels)), "label": labels, "client": client})


def label_table(labels: np.ndarray, assignment: np.ndarray, clients: int, classes: int) -> pd.DataFrame:
    """Clients x labels: how many samples of each label each client has; index client, columns the labels."""
    given = assignment != LEFT_OUT
    counts = np.zeros((clients, classes), np.int64)
    np.add.at(counts, (assignment[given], labels[given]), 1)
    return pd.DataFrame(counts, index=pd.RangeIndex(clients, name="client"), columns=range(classes))


def samples_by_client(assignment: np.ndarray, clients: int) -> list[np.ndarray]:
    """For each client the indices of its samples, ascending."""
    given = np.flatnonzero(assignment != LEFT_OUT)
    by_client = given[np.argsort(assignment[given], kind="stable")]
    sizes = np.bincount(assignment[given], minlength=clients)
    return np.split(by_client, np.cumsum(sizes)[:-1])
