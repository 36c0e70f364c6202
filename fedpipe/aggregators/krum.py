"""The update of one client: the one whose nearest neighbours are nearest.

    score(i) = sum of |u_i - u_j|^2 over the n - f - 2 updates u_j nearest to u_i;   update = u_i of the least score

for n clients with samples, of which at most f are assumed to be attackers. Clients' weights are not used. All updates
of a cohort are held at once: clients x weights x 4 bytes.

Source: Blanchard et al. 2017, "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", section 4,
https://arxiv.org/abs/1703.02757. It needs n >= 2f + 3.
"""

from typing import Any

from fedpipe.config.section import Section, Size
from fedpipe.config.train import Train
from fedpipe.lazy import tf
from fedpipe.learning.collected import count, krum_scores, mean_of, row, squared_distances
from fedpipe.learning.interface import Client, Tensors
from fedpipe.learning.measurements import Counted, Measurements
from fedpipe.learning.task import Task

COLLECTS = True  # what `encode` returns is stacked, not added
IGNORES_WEIGHTS = True  # all clients with samples count alike


class Params(Section):
    """``attackers``: f, number of attackers in a cohort that it has to tolerate."""

    attackers: Size = 1


def smallest_cohort(settings: Train) -> int:
    """How many clients a round needs."""
    return 2 * settings.params_of("aggregator").attackers + 3


def encode(task: Task, state: Tensors, update: Tensors, weight: Any, client: Client) -> Tensors:
    """One row per client that has samples."""
    return row(update, weight)


def finish(task: Task, state: Tensors, total: Tensors, weight: Any, round_number: Any) -> tuple[Tensors, Tensors]:
    """The row with the least score, the first of several; zeros if there are none."""
    scores = krum_scores(squared_distances(total), tf.ones([count(total)], tf.bool), task.aggregator.attackers)
    return mean_of(total, tf.argsort(scores, stable=True)[:1]), state


def server_measurements(task: Task, before: Tensors, after: Tensors, total: Tensors) -> Measurements:
    """Clients that were not chosen: all but one."""
    return {"left_out": Counted(tf.maximum(count(total) - 1, 0))}
