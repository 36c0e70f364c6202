"""The mean of the m updates with the least scores of Krum (krum.py has the formula): m = 1 is Krum, m = n the mean.

Clients' weights are not used. All updates of a cohort are held at once: clients x weights x 4 bytes.

Source: Blanchard et al. 2017, "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", section 4
("Multi-Krum"), https://arxiv.org/abs/1703.02757. For n clients, of which f are attackers, it needs n >= 2f + 3. The
paper proves its bound for m = 1 only.
"""

from typing import Any

from fedpipe.config.section import Count, Section, Size
from fedpipe.config.train import Train
from fedpipe.lazy import tf
from fedpipe.learning.collected import count, krum_scores, mean_of, row, squared_distances
from fedpipe.learning.interface import Client, Tensors
from fedpipe.learning.measurements import Counted, Measurements
from fedpipe.learning.task import Task

COLLECTS = True  # what `encode` returns is stacked, not added
IGNORES_WEIGHTS = True  # all clients with samples count alike


class Params(Section):
    """``attackers``: f, number of attackers in a cohort that it has to tolerate. ``average``: m; null for n - f - 2."""

    attackers: Size = 1
    average: Count | None = None


def smallest_cohort(settings: Train) -> int:
    """How many clients a round needs."""
    return 2 * settings.params_of("aggregator").attackers + 3


def encode(task: Task, state: Tensors, update: Tensors, weight: Any, client: Client) -> Tensors:
    """One row per client that has samples."""
    return row(update, weight)


def finish(task: Task, state: Tensors, total: Tensors, weight: Any, round_number: Any) -> tuple[Tensors, Tensors]:
    """The mean of the rows with the least scores; zeros if there are none."""
    everyone = tf.ones([count(total)], tf.bool)
    scores = krum_scores(squared_distances(total), everyone, task.aggregator.attackers)
    return mean_of(total, tf.argsort(scores, stable=True)[: _average(task, total)]), state


def server_measurements(task: Task, before: Tensors, after: Tensors, total: Tensors) -> Measurements:
    """Clients that were not chosen."""
    return {"left_out": Counted(tf.maximum(count(total) - _average(task, total), 0))}


def _average(task: Task, total: Tensors) -> Any:
    """m."""
    params = task.aggregator
    return params.average or tf.maximum(count(total) - params.attackers - 2, 1)
