"""What each client of a round did, with ``train.client_rounds``: a row per client, and the table of all rounds.

The numbers are those of which the round's measurements are the sums, so they cost no pass over samples; the norm of the
update is computed besides. Rows are stacked beside the sums, in the order of the cohort, and change none of them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fedpipe.config.train import Train
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Contribution
from fedpipe.learning.measurements import Measurements
from fedpipe.learning.vectors import norm

if TYPE_CHECKING:
    import pandas as pd

_ROUND, _CLIENT, _EXAMPLES, _SEEN, _NON_FINITE, _WEIGHT, _NORM = range(7)  # columns of rows, then come sums


def row_of(settings: Train, sent: Contribution, client: Client, measured: Measurements) -> Any:
    """A client's row without its round: float64 [1, columns], in which whole numbers up to 2^53 are exact.

    Args:
      settings: Section train of params.yaml.
      sent: The client's contribution; zeros if it does not count.
      client: The client.
      measured: Its measurements, the numbers that every round has among them.
    """
    numbers = [measured[name].total for name in ("examples", "seen", "non_finite")]
    sums = [measured[name].total for name in _measures(settings)]
    row = [client.id, *numbers, sent.weight, norm(sent.update), *sums]
    return tf.stack([tf.cast(number, tf.float64) for number in row])[tf.newaxis]


def with_round(number: int, rows: np.ndarray) -> np.ndarray:
    """The rows of a round with its number in front."""
    return np.concatenate([np.full((len(rows), 1), float(number)), rows], axis=1)


def table(settings: Train, rounds: Sequence[np.ndarray], numbers: np.ndarray) -> "pd.DataFrame":
    """metrics/client_rounds.csv: a row per round and client; loss and accuracy are means over the examples as seen.

    A client that trained on nothing, or whose update was left out, has no mean of anything: NaN.

    Args:
      settings: Section train of params.yaml.
      rounds: The rows of each round (`with_round`); may be none.
      numbers: int64 [clients], the number of each client in the partition (`Manifest.client_numbers`).
    """
    import pandas as pd

    measures = _measures(settings)
    rows = np.concatenate([np.zeros((0, _NORM + 1 + len(measures))), *rounds])
    seen = rows[:, _SEEN]
    columns: dict[str, np.ndarray] = {
        "round": rows[:, _ROUND].astype(np.int64),
        "client": numbers[rows[:, _CLIENT].astype(np.int64)],
        "examples": rows[:, _EXAMPLES].astype(np.int64),
    }
    for place, name in enumerate(measures, _NORM + 1):
        columns[f"train_{name}"] = np.divide(rows[:, place], seen, out=np.full(len(rows), np.nan), where=seen > 0)
    columns["update_norm"] = rows[:, _NORM]
    columns["weight"] = rows[:, _WEIGHT]
    columns["non_finite"] = rows[:, _NON_FINITE].astype(np.int64)
    return pd.DataFrame(columns)


def _measures(settings: Train) -> list[str]:
    """The names of what every client measures on its examples."""
    return ["loss", "accuracy", *(name for name in settings.metrics if name != "accuracy")]
