"""The ledger of a training: its spent epsilon after each round, and how many rounds a budget allows.

It depends on params and cohorts only, never on data, so it is known before the first round and is the same after a
resume.
"""

import bisect
import math
from typing import Any

from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import AGGREGATORS
from fedpipe.errors import PipelineError
from fedpipe.privacy.mechanism import Draw, Mechanism

# The time and the memory that a tight epsilon takes grow with it, to gigabytes where there is little noise; and where
# nothing is protected it says nothing.
_TIGHT_UP_TO = 100.0


class Ledger:
    """The privacy of a training with an aggregator that has a mechanism."""

    def __init__(self, settings: Train, mechanism: Mechanism, draw: Draw) -> None:
        """``draw``: the ids of the cohort of a round."""
        self._settings, self._mechanism, self._draw = settings, mechanism, draw
        own = settings.params_of("aggregator")
        self._calibrated = {} if settings.privacy.epsilon is None else {"noise_multiplier": own.noise_multiplier}

    @staticmethod
    def of(settings: Train, clients: int, draw: Draw) -> "Ledger | None":
        """The ledger of a training, or None if its aggregator says nothing of privacy."""
        mechanism = AGGREGATORS.of(settings.aggregator).mechanism
        return None if mechanism is None else Ledger(settings, mechanism(settings, clients), draw)

    def epsilon(self, rounds: int) -> float:
        """Epsilon after ``rounds`` rounds, by Rényi DP."""
        return self._mechanism.epsilon(rounds, self._settings.privacy.delta, self._draw)

    def rounds(self) -> int:
        """How many rounds the training has: ``train.rounds``, or as many as ``train.stop_at.epsilon`` allows.

        Raises:
          PipelineError: The first round already spends more.
        """
        budget = self._settings.stop_at.epsilon
        if budget is None:
            return self._settings.rounds
        allowed = bisect.bisect_right(range(1, self._settings.rounds + 1), budget, key=self.epsilon)
        if not allowed:
            raise PipelineError(
                f"params.yaml: 'train.stop_at.epsilon' is {budget}, and the first round already spends "
                f"{self.epsilon(1):.3g}; raise it, or the noise_multiplier of 'train.{self._settings.aggregator}'"
            )
        return allowed

    def summary(self, rounds: int) -> dict[str, Any]:
        """What metrics/training.json says of ``rounds`` rounds; a figure that is not known is absent."""
        spent, tight = self.epsilon(rounds), None
        if spent <= _TIGHT_UP_TO:
            tight = self._mechanism.tight_epsilon(rounds, self._settings.privacy.delta, self._draw)
        figures = {"epsilon_rdp": spent, "epsilon_pld": tight}
        return {
            **{name: value for name, value in figures.items() if value is not None and math.isfinite(value)},
            "delta": self._settings.privacy.delta,
            "neighbours": self._mechanism.neighbours,
            **self._calibrated,
        }
