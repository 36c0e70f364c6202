"""An attacker sends noise instead of its update: each entry is drawn from N(0, stddev^2).

Source: Blanchard et al. 2017, "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", section 5
(there with standard deviation 200), https://arxiv.org/abs/1703.02757.
"""

from typing import Any

from fedpipe.config.section import Positive, Section
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Server
from fedpipe.learning.task import Task


class Params(Section):
    """``stddev``: standard deviation of each entry."""

    stddev: Positive = 1.0


def vector(task: Task, server: Server, client: Client, honest: list[Any], seed: Any) -> list[Any]:
    """The attacker's replacement for each vector."""
    seeds = [tf.random.experimental.stateless_fold_in(seed, index, alg="philox") for index in range(len(honest))]
    return [
        tf.random.stateless_normal(tf.shape(part), own_seed, 0.0, task.attack.stddev, alg="philox")
        for part, own_seed in zip(honest, seeds, strict=True)
    ]
