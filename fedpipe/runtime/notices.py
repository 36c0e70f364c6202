"""Hooks that report remarkable facts of a training that ends without an error."""

import numpy as np

from fedpipe.networks.network import Weights
from fedpipe.runtime.progress import say
from fedpipe.runtime.records import diverged
from fedpipe.runtime.rounds import CompletedRound, History, Hook, Round


class NoticeStandstill(Hook):
    """Says once that clients contributed and no weight changed, as where all of a sum of integers is rounded to 0."""

    def __init__(self, first: Weights | None, aggregator: str) -> None:
        """``first``: the weights before the first round of this process, if they are known."""
        self._before, self._aggregator = first, aggregator
        self._stands, self._said = False, False

    def measure(self, current: Round) -> None:
        """Compares the weights with those before the round."""
        pairs = zip(self._before or [], current.weights, strict=False)
        self._stands = self._before is not None and all(np.array_equal(old, new) for old, new in pairs)
        self._before = current.weights

    def on_round_end(self, completed: CompletedRound) -> None:
        """Reports the first such round."""
        if self._stands and completed.record.clients and not self._said:
            self._said = True
            name, clients = self._aggregator, completed.record.clients
            say(
                f"round {completed.record.round} changed no weight: all that {clients} clients sent was rounded to 0 "
                f"by 'train.aggregator' {name}; raise 'train.{name}.bits', lower its 'norm' to that of updates, or set "
                "its 'rounding' to stochastic"
            )


class NoticeDivergence(Hook):
    """Says at the end that the loss grew instead of falling."""

    def __init__(self, history: History) -> None:
        self._history = history

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None and (losses := diverged(self._history.records)) is not None:
            first, last = losses
            say(
                f"warning: the training diverged: its loss was {first:.4g} in the first round, and is {last:.4g} in "
                "the last; lower 'train.client_optimizer.learning_rate' or 'train.server_optimizer.learning_rate'"
            )
