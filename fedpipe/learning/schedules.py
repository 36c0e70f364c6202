"""Learning rates over the rounds, computed in float64 by the driver and looked up in the graph by round.

With r the round (1, 2, ...), w the rounds of warm-up and t = max(r - w, 1) the rounds after it:

    warm-up       rate x r / (w + 1) for r <= w; then one of
    constant      rate
    step          rate x factor ^ floor((t - 1) / every)
    exponential   rate x factor ^ ((t - 1) / every)
    cosine        rate x (end + (1 - end) x (1 + cos(pi x min(t - 1, n) / n)) / 2), n = rounds - w

Source of cosine: Loshchilov and Hutter 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts", equation 5,
without restarts, https://arxiv.org/abs/1608.03983. Warm-up: Goyal et al. 2017, "Accurate, Large Minibatch SGD".
"""

import math
from typing import Any

import numpy as np

from fedpipe.config.train import Optimizer
from fedpipe.lazy import tf


def rate(settings: Optimizer, round_number: int) -> float:
    """The learning rate of a round (1 for the first)."""
    schedule, base = settings.schedule, settings.learning_rate
    if round_number <= schedule.warm_up:
        return base * round_number / (schedule.warm_up + 1)
    done = round_number - schedule.warm_up - 1
    if schedule.name == "step":
        return base * schedule.factor ** (done // schedule.every)
    if schedule.name == "exponential":
        return base * schedule.factor ** (done / schedule.every)
    if schedule.name == "cosine":
        share = min(done / (schedule.rounds - schedule.warm_up), 1.0)
        return base * (schedule.end + (1 - schedule.end) * (1 + math.cos(math.pi * share)) / 2)
    return base


def rates(settings: Optimizer, rounds: int) -> np.ndarray | None:
    """The rates float32 [rounds] of rounds 1, 2, ...; None if they are all the same."""
    if settings.schedule.name == "constant" and not settings.schedule.warm_up:
        return None
    return np.array([rate(settings, number) for number in range(1, rounds + 1)], np.float32)


def rate_in_graph(settings: Optimizer, rounds: int, round_number: Any) -> Any:
    """The rate of a round (int32 scalar tensor, 1 for the first): a float32 scalar, or a number if it never changes."""
    table = rates(settings, rounds)
    if table is None:
        return settings.learning_rate
    return tf.gather(tf.constant(table), tf.minimum(round_number, rounds) - 1)
