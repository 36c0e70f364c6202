"""Who takes part in a round: a function of (seed, round), so that a resumed run asks the same clients."""

from dataclasses import dataclass, field

import numpy as np

from fedpipe.config.train import COHORTS, Train
from fedpipe.errors import PipelineError
from fedpipe.learning.attackers import attackers

WHOLE = 1000  # thousandths: all of a client's local steps


@dataclass(frozen=True)
class Cohort:
    """The clients whose work counts in a round."""

    clients: np.ndarray  # int32 [n], ids, ascending
    work: np.ndarray  # int32 [n]: how much of its local steps each takes, in thousandths
    counts: dict[str, int] = field(default_factory=dict)  # further columns of the round's record


def check(settings: Train, clients: int) -> None:
    """Raises PipelineError if a round asks for more clients than there are shards."""
    if settings.clients_per_round != "all" and settings.clients_per_round > clients:
        raise PipelineError(
            f"params.yaml: 'train.clients_per_round' is {settings.clients_per_round}, but there are {clients} clients; "
            f"give a number up to {clients}, or all"
        )


def cohort(settings: Train, sizes: np.ndarray, round_number: int) -> Cohort:
    """The cohort of a round (1, 2, ...).

    Args:
      settings: Section train of params.yaml.
      sizes: int64 [clients], the number of samples of every client.
      round_number: 1 for the first.
    """
    draw = COHORTS.function(settings.cohort, "draw")
    chosen = np.asarray(draw(settings, np.arange(len(sizes)), sizes, round_number), np.int32)
    counts = {}
    if settings.attack != "no_attack":
        counts["attackers"] = int(attackers(settings, len(sizes))[chosen].sum())
    return Cohort(chosen, np.full(len(chosen), WHOLE, np.int32), counts)
