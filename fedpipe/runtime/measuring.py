"""Measures rounds on samples that no client trains on: the global model, or the clients' models without one."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fedpipe.config.train import Train
from fedpipe.evaluation.personal import means_over_models
from fedpipe.learning.interface import Client, Server
from fedpipe.learning.task import Task
from fedpipe.learning.wiring import Wiring
from fedpipe.networks.network import Network, Weights
from fedpipe.runtime.hooks import EvaluateModel, Evaluation
from fedpipe.runtime.personal import ClientModels, nothing_kept
from fedpipe.runtime.rounds import Hook, Round

# As `Evaluation`, of a client's model, with the client's number (`GlobalSamples.measure_own`).
OwnEvaluation = Callable[[Network, Weights, Train, int], dict[str, float]]


def measuring(
    wiring: Wiring,
    state: Callable[[], list[np.ndarray]],
    rounds: int,
    evaluate: Evaluation | None,
    evaluate_own: OwnEvaluation | None,
) -> list[Hook]:
    """The hook that measures rounds, if any does.

    Args:
      wiring: The training.
      state: The server's state, flat.
      rounds: The last round.
      evaluate: Measures a global model.
      evaluate_own: Measures a client's model, of an algorithm without a global one.
    """
    task, algorithm = wiring.task, wiring.algorithm
    if not task.settings.evaluate_every:
        return []
    if algorithm.HAS_NO_GLOBAL_MODEL and algorithm.personal is not None:
        if evaluate_own is None:
            return []
        return [EvaluateOwnModels(evaluate_own, wiring, state, algorithm.personal, rounds)]
    return [] if evaluate is None else [EvaluateModel(evaluate, task, rounds)]


@dataclass
class EvaluateOwnModels(Hook):
    """As `EvaluateModel`, where there is no global model: means over the clients' models.

    A client without test samples of its own does not count in what is measured on these.
    """

    evaluate: OwnEvaluation
    wiring: Wiring
    state: Callable[[], list[np.ndarray]]  # of the server, flat
    personal: Callable[[Task, Server, Client], Weights]
    rounds: int
    phase = "evaluate"

    def measure(self, current: Round) -> None:
        """As `Hook.measure`."""
        task, last = self.wiring.task, current.last_rounds
        is_due = current.number % task.settings.evaluate_every == 0
        if is_due or current.number == self.rounds:
            last = nothing_kept(self.wiring) if last is None else last
            models = ClientModels(self.wiring, self.personal, self.state(), last).weights()
            figures = means_over_models(
                self.evaluate(task.network, weights, task.settings, client) for client, weights in enumerate(models)
            )
            current.columns |= figures
            current.only_last = frozenset() if is_due else frozenset(figures)
