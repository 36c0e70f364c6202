"""The rounds of a training: the one under way, the completed ones, and the hooks that take part in each of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np

from fedpipe.config.train import Dropout
from fedpipe.errors import DivergedError
from fedpipe.learning.client_rows import with_round
from fedpipe.networks.network import Weights
from fedpipe.runtime.checkpoint import Best, Checkpoint
from fedpipe.runtime.records import RoundRecord


@dataclass
class Round:
    """A round whose clients have trained, and which does not count yet."""

    number: int  # 1 for the first
    fetch: Callable[[], Weights]  # the global model from the worker
    best: Best | None  # the best weights so far
    columns: dict[str, float] = field(default_factory=dict)  # further columns of the round's record
    last_rounds: np.ndarray | None = None  # int32 [clients], that of each client's state; None if they keep none
    only_last: frozenset[str] = frozenset()  # those that a training of more rounds would not measure in this one

    def passing(self) -> "Round":
        """The round in a training of more rounds."""
        columns = {name: value for name, value in self.columns.items() if name not in self.only_last}
        return replace(self, columns=columns)

    @cached_property
    def weights(self) -> Weights:
        """The global model after the round.

        Raises:
          DivergedError: The weights are not finite.
        """
        return finite(self.fetch())


class Passing(NamedTuple):
    """The state of a training of more rounds after this round, where it differs.

    The last round is evaluated whatever its number.
    """

    record: RoundRecord
    best: Best | None


class CompletedRound(NamedTuple):
    """A round that counts."""

    record: RoundRecord
    seconds: float
    phases: Mapping[str, float]  # seconds of each phase (phases.py)


class History:
    """The completed rounds of a training."""

    def __init__(self, resumed: Checkpoint | None) -> None:
        """``resumed``: where an earlier process stopped."""
        self.records = list(resumed.records) if resumed else []
        self.seconds = list(resumed.seconds) if resumed else []
        self.best = resumed.best if resumed else None
        self.dropouts = list(resumed.dropouts) if resumed else []
        self.client_rows = list(resumed.client_rows) if resumed else []
        self.passing: Passing | None = None  # of the last round

    def add(
        self,
        record: RoundRecord,
        seconds: float,
        best: Best | None,
        dropouts: Sequence[Dropout] = (),
        passing: Passing | None = None,
        client_rows: np.ndarray | None = None,
    ) -> None:
        """Adds a round; a signal must not come between (`fedpipe.system.signals.held`)."""
        self.records.append(record)
        if client_rows is not None:
            self.client_rows.append(with_round(record.round, client_rows))
        self.seconds.append(seconds)
        self.best, self.passing = best, passing
        self.dropouts += dropouts

    def end(self, state: list[np.ndarray]) -> Checkpoint:
        """The training after its last round, as one of more rounds has it; ``state`` as of `Engine.state`."""
        records, best = list(self.records), self.best
        if self.passing is not None:
            records[-1], best = self.passing
        return self.checkpoint(records, state, best)

    def checkpoint(self, records: list[RoundRecord], state: list[np.ndarray], best: Best | None) -> Checkpoint:
        """The training with these records, and all else of its rounds as it is here."""
        return Checkpoint(
            records,
            list(self.seconds),
            state,
            best,
            dropouts=list(self.dropouts),
            client_rows=list(self.client_rows),
        )


class Hook:
    """Takes part in every round, and is a context manager around all of them. By default it does nothing."""

    phase: ClassVar[str | None] = None  # under which its time is counted (phases.py)

    def on_clients(self, number: int, cohort: int, done: int) -> None:
        """Called while round ``number`` trains, when ``done`` of the clients of its ``cohort`` are done."""

    def measure(self, current: Round) -> None:
        """Called before a round counts; may add columns to its record."""

    def on_round_end(self, completed: CompletedRound) -> None:
        """Called when a round counts."""

    def stops(self, last: RoundRecord) -> bool:
        """Whether the training ends with this record; it may be that of a checkpoint."""
        return False

    def __enter__(self) -> "Hook":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Called when the training ends, is stopped, or fails."""


def finite(weights: Weights) -> Weights:
    """``weights``, if all of them are numbers.

    Raises:
      DivergedError: They are not.
    """
    if not all(np.isfinite(w).all() for w in weights):
        raise DivergedError(
            "the trained weights are not finite; lower 'train.server_optimizer.learning_rate' in params.yaml"
        )
    return weights
