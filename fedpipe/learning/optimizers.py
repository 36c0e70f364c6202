"""Optimizers by name, TFF's and those of adaptive.py, with a learning rate that may change from round to round."""

from collections import OrderedDict
from typing import Any

from fedpipe.config.optimizers import Optimizer, ServerOptimizer
from fedpipe.lazy import tf, tff
from fedpipe.learning import adaptive
from fedpipe.learning.schedules import rate_in_graph

_OF_THE_PAPER = {"fed_adagrad": adaptive.adagrad, "fed_adam": adaptive.adam, "fed_yogi": adaptive.yogi}


class RoundOptimizer:
    """An optimizer in the shape of those of ``tff.learning.optimizers``, whose rate is that of the round."""

    def __init__(self, settings: Optimizer, rounds: int) -> None:
        """``rounds``: how many rounds there are, for the rates of a schedule."""
        self._optimizer = _build(settings)
        self._settings, self._rounds = settings, rounds

    def start(self, weights: Any) -> Any:
        """The state before the first step; ``weights`` are tensors or specs."""
        return self._optimizer.initialize(tuple(tf.TensorSpec(w.shape, w.dtype) for w in weights))

    def at_round(self, state: Any, round_number: Any) -> Any:
        """``state`` with the rate of a round (int32 scalar, 1 for the first)."""
        rate = rate_in_graph(self._settings, self._rounds, round_number)
        if isinstance(rate, float):
            return state
        return self._optimizer.set_hparams(state, OrderedDict(learning_rate=rate))

    def step(self, state: Any, weights: Any, gradients: Any) -> tuple[Any, list[Any]]:
        """The state and the weights after one step."""
        state, weights = self._optimizer.next(state, tuple(weights), tuple(gradients))
        return state, list(weights)


def accumulated_steps(settings: Optimizer, steps: Any) -> Any:
    """How many plain steps go as far as ``steps`` (float32 scalar) of SGD with ``settings.momentum`` rho.

    The gradient of step j moves the weights in all steps that follow it, (1 - rho^(steps - j + 1)) / (1 - rho) times
    the rate in all; the sum over j is ||a||_1.

    Source: Wang et al. 2020, "Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization",
    section 4, https://arxiv.org/abs/2007.07481.
    """
    rho = settings.momentum
    return (steps - rho * (1 - rho**steps) / (1 - rho)) / (1 - rho) if rho else steps


def _build(settings: Optimizer) -> Any:
    if isinstance(settings, ServerOptimizer) and settings.name in _OF_THE_PAPER:
        return adaptive.Adaptive(
            _OF_THE_PAPER[settings.name],
            settings.learning_rate,
            settings.tau,
            settings.first_decay,
            settings.second_decay,
            settings.start,
        )
    optimizers = tff.learning.optimizers
    if settings.name == "sgd":
        return optimizers.build_sgdm(settings.learning_rate, settings.momentum or None)
    build = {
        "adam": optimizers.build_adam,
        "adagrad": optimizers.build_adagrad,
        "rmsprop": optimizers.build_rmsprop,
        "yogi": optimizers.build_yogi,
    }[settings.name]
    others = {"epsilon": settings.epsilon, "initial_preconditioner_value": settings.initial_accumulator}
    return build(settings.learning_rate, **{name: value for name, value in others.items() if value is not None})
