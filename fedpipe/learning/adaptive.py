"""FedAdagrad, FedAdam and FedYogi as in their paper: optimizers of the server in the shape of TFF's.

With g the update that takes the place of the gradient (the paper's Delta is -g), entry by entry, and m and v from
m = 0 and v = tau^2 on:

    m <- beta_1 m + (1 - beta_1) g
    v <- v + g^2                                  FedAdagrad
    v <- beta_2 v + (1 - beta_2) g^2              FedAdam
    v <- v - (1 - beta_2) g^2 sign(v - g^2)       FedYogi
    w <- w - rate x m / (sqrt(v) + tau)

The first rounds' bias towards the start values is not corrected. Defaults are tau = 0.001, beta_1 = 0.9 and beta_2 =
0.99; FedAdagrad has beta_1 = 0, as Adagrad keeps no m.

Source: Reddi et al. 2021, "Adaptive Federated Optimization", algorithm 2, https://arxiv.org/abs/2003.00295. The start
there is any v >= tau^2.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedpipe.lazy import tf

# (v, g^2, beta_2) -> v
SecondMoment = Callable[[Any, Any, float], Any]
# learning_rate, a number or a float32 scalar; m and v, tuples in the order of the weights
State = OrderedDict[str, Any]


class Adaptive:
    """One of the three: `initialize` and `next` are functions of their arguments and the params."""

    def __init__(
        self, second_moment: SecondMoment, rate: float, tau: float, beta_1: float, beta_2: float, start: float
    ) -> None:
        """``start``: every entry of v before the first step."""
        self._second_moment, self._rate, self._tau = second_moment, rate, tau
        self._beta_1, self._beta_2, self._start = beta_1, beta_2, start

    def initialize(self, specs: Sequence[Any]) -> State:
        """The state before the first step, for weights of ``specs``."""
        return OrderedDict(
            learning_rate=self._rate,
            m=tuple(tf.zeros(spec.shape, spec.dtype) for spec in specs),
            v=tuple(tf.fill(spec.shape, tf.cast(self._start, spec.dtype)) for spec in specs),
        )

    def next(self, state: State, weights: Sequence[Any], gradients: Sequence[Any]) -> tuple[State, tuple[Any, ...]]:
        """The state and the weights after a step along ``gradients``, which have the shapes of the weights."""
        first = tuple(self._beta_1 * m + (1 - self._beta_1) * g for m, g in zip(state["m"], gradients, strict=True))
        second = tuple(
            self._second_moment(v, tf.square(g), self._beta_2) for v, g in zip(state["v"], gradients, strict=True)
        )
        moved = tuple(
            w - state["learning_rate"] * m / (tf.sqrt(v) + self._tau)
            for w, m, v in zip(weights, first, second, strict=True)
        )
        return OrderedDict(learning_rate=state["learning_rate"], m=first, v=second), moved

    def set_hparams(self, state: State, hparams: Mapping[str, Any]) -> State:
        """``state`` with the ``learning_rate`` of ``hparams``."""
        return OrderedDict(state, learning_rate=hparams["learning_rate"])


def adagrad(v: Any, square: Any, beta_2: float) -> Any:
    """v of FedAdagrad, which forgets nothing."""
    return v + square


def adam(v: Any, square: Any, beta_2: float) -> Any:
    """v of FedAdam."""
    return beta_2 * v + (1 - beta_2) * square


def yogi(v: Any, square: Any, beta_2: float) -> Any:
    """v of FedYogi, which changes by g^2 at most, however large it is."""
    return v - (1 - beta_2) * square * tf.sign(v - square)
