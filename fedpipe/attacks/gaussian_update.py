"""An attacker sends noise instead of its update: each entry is drawn from N(0, stddev^2).

Source: Blanchard et al. 2017, "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", section 5
(there with standard deviation 200), https://arxiv.org/abs/1703.02757.
"""

from fedpipe.config.section import Positive, Section
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Contribution, Server
from fedpipe.learning.task import Task


class Params(Section):
    """``stddev``: standard deviation of each entry."""

    stddev: Positive = 1.0


def contribution(task: Task, server: Server, client: Client, sent: Contribution) -> Contribution:
    """What the attacker sends."""
    seed, leaves = task.attack_seed(client), tf.nest.flatten(sent.update)
    seeds = [tf.random.experimental.stateless_fold_in(seed, index, alg="philox") for index in range(len(leaves))]
    noise = [
        tf.random.stateless_normal(tf.shape(leaf), one, 0.0, task.attack.stddev, alg="philox")
        for leaf, one in zip(leaves, seeds, strict=True)
    ]
    return sent._replace(update=tf.nest.pack_sequence_as(sent.update, noise))
