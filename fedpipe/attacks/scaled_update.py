"""An attacker sends its update ``factor`` times as long, so that it outweighs the others: update' = factor x update.

With ``factor`` = clients / attackers, the mean becomes the attackers' model.

Source: Bagdasaryan et al. 2020, "How To Backdoor Federated Learning", section 4.2 (model replacement),
https://arxiv.org/abs/1807.00459.
"""

from fedpipe.config.section import Positive, Section
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Contribution, Server
from fedpipe.learning.task import Task


class Params(Section):
    """``factor``: what the update is multiplied with."""

    factor: Positive = 10.0


def contribution(task: Task, server: Server, client: Client, sent: Contribution) -> Contribution:
    """What the attacker sends."""
    return sent._replace(update=tf.nest.map_structure(lambda part: task.attack.factor * part, sent.update))
