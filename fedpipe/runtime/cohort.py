"""Who takes part in a round: a function of (seed, round), so that a resumed run asks the same clients.

Only a cohort with ``draw_by_losses`` also depends on the weights before the round, which a checkpoint gives back.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from fedpipe.compatibility import round_size
from fedpipe.config.train import Train
from fedpipe.contracts.cohort import COHORTS
from fedpipe.errors import PipelineError
from fedpipe.learning.attackers import attackers
from fedpipe.learning.work_request import WHOLE, WorkRequest
from fedpipe.runtime.availability import NO_BYTES, Message, RoundAvailability
from fedpipe.runtime.kept_state import KeptState

# (ids, round) -> the mean loss of each of these clients under the weights before the round, float32
Losses = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True)
class Cohort:
    """The clients whose work counts in a round.

    In asynchronous training a client may be there twice: once for an update that it started earlier, once for one that
    it starts now.
    """

    requests: WorkRequest  # to each of them, by ascending ids, as if it had kept nothing
    counts: dict[str, float] = field(default_factory=dict)  # further columns of the round's record

    @property
    def clients(self) -> np.ndarray:
        """Ids, int32 [n]."""
        clients: np.ndarray = self.requests.id
        return clients

    @property
    def trained(self) -> np.ndarray:
        """The clients that train in this round: ids, ascending."""
        trained: np.ndarray = self.clients[self.requests.trains]
        return trained

    @property
    def updates(self) -> int:
        """How many updates the server gets in this round."""
        return int(self.requests.reports.sum())

    def packed(self, kept: KeptState | None) -> np.ndarray:
        """The requests as workers get them, int32 [n, 4]; ``kept`` knows what clients keep, if they do."""
        last_round = self.requests.last_round if kept is None else kept.last[self.clients]
        return self.requests._replace(last_round=last_round).pack()


def require_clients(settings: Train, clients: int) -> None:
    """Raises PipelineError if there are too few clients for ``settings`` (fedpipe/compatibility/round_size.py)."""
    try:
        round_size.check_clients(settings, clients)
    except ValueError as error:
        raise PipelineError(f"params.yaml: {error}") from None


def cohort(
    settings: Train,
    sizes: np.ndarray,
    round_number: int,
    losses: Losses | None = None,
    message: Message = NO_BYTES,
) -> Cohort:
    """The cohort of a round (1, 2, ...).

    Args:
      settings: Section train of params.yaml.
      sizes: int64 [clients], the number of samples of every client.
      round_number: 1 for the first.
      losses: Measures clients, for a cohort that needs it.
      message: What goes to and from a client, for the time that it takes.
    """
    sampler = COHORTS.of(settings.cohort)
    availability = RoundAvailability(settings, sizes, round_number, message) if settings.availability.is_on else None
    available = np.arange(len(sizes)) if availability is None else availability.available
    counts: dict[str, float] = {}
    measured = np.zeros(0, np.int32)
    if sampler.draw is not None:
        drawn = sampler.draw(settings, available, sizes, round_number)
    elif sampler.draw_by_losses is not None and losses is not None:

        def counted(clients: np.ndarray) -> np.ndarray:
            nonlocal measured
            measured = np.append(measured, clients.astype(np.int32))
            return losses(clients, round_number)

        drawn = sampler.draw_by_losses(settings, available, sizes, round_number, counted)
        counts["measured"] = len(measured)
    else:
        raise TypeError(f"the cohort {settings.cohort} needs the clients' losses")
    chosen = np.asarray(drawn, np.int32)
    work = np.full(len(chosen), WHOLE, np.int32)
    if availability is not None:
        chosen, work, counts = availability.finish(chosen, counts, measured)
    if settings.attack != "no_attack":
        counts["attackers"] = int(attackers(settings, len(sizes))[chosen].sum())
    return Cohort(WorkRequest.of(chosen, work=work), counts)
