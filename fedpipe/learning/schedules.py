"""Learning rates over the rounds, computed in float64 by the driver and looked up in the graph by round.

With r the round (1, 2, ...), w the rounds of warm-up and t = max(r - w, 1) the rounds after it:

    warm-up       rate x r / (w + 1) for r <= w; then one of
    constant      rate
    step          rate x factor ^ floor((t - 1) / every)
    exponential   rate x factor ^ ((t - 1) / every)
    cosine        rate x (end + (1 - end) x (1 + cos(pi x min(t - 1, n) / n)) / 2), n = rounds - w

Keys that are left out: factor 0.5 and every a quarter of the rounds after the warm-up, rounded up (step); factor 0.99
and every 1 (exponential, as McMahan et al. 2017 decay their rate); rounds those of the training and end 0.0 (cosine).

Source of cosine: Loshchilov and Hutter 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts", equation 5,
without restarts, https://arxiv.org/abs/1608.03983. Warm-up: Goyal et al. 2017, "Accurate, Large Minibatch SGD".
"""

import math
from typing import Any

import numpy as np

from fedpipe.config.optimizers import Optimizer
from fedpipe.lazy import tf


def rate(settings: Optimizer, round_number: int, rounds: int) -> float:
    """The learning rate of a round (1 for the first) in a training of so many ``rounds``."""
    schedule, base = settings.schedule, settings.learning_rate
    if round_number <= schedule.warm_up:
        return base * round_number / (schedule.warm_up + 1)
    done = round_number - schedule.warm_up - 1
    if schedule.name == "step":
        return base * schedule.decay ** (done // schedule.steps_every(rounds))
    if schedule.name == "exponential":
        return base * schedule.decay ** (done / schedule.steps_every(rounds))
    if schedule.name == "cosine":
        share, end = min(done / (schedule.ends_after(rounds) - schedule.warm_up), 1.0), schedule.end or 0.0
        return base * (end + (1 - end) * (1 + math.cos(math.pi * share)) / 2)
    return base


def rates(settings: Optimizer, rounds: int) -> np.ndarray | None:
    """The rates float32 [rounds] of rounds 1, 2, ...; None if they are all the same."""
    if settings.schedule.name == "constant" and not settings.schedule.warm_up:
        return None
    return np.array([rate(settings, number, rounds) for number in range(1, rounds + 1)], np.float32)


def rate_in_graph(settings: Optimizer, rounds: int, round_number: Any) -> Any:
    """The rate of a round (int32 scalar tensor, 1 for the first): a float32 scalar, or a number if it never changes."""
    table = rates(settings, rounds)
    if table is None:
        return settings.learning_rate
    return tf.gather(tf.constant(table), tf.minimum(round_number, rounds) - 1)
