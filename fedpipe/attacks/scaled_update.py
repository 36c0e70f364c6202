"""An attacker sends its update ``factor`` times as long, so that it outweighs the others: update' = factor x update.

With ``factor`` = clients / attackers, the mean becomes the attackers' model.

Source: Bagdasaryan et al. 2020, "How To Backdoor Federated Learning", section 4.2 (model replacement),
https://arxiv.org/abs/1807.00459.
"""

from typing import Any

from fedpipe.config.section import Positive, Section
from fedpipe.learning.interface import Client, Server
from fedpipe.learning.task import Task


class Params(Section):
    """``factor``: multiplies the update."""

    factor: Positive = 10.0


def vector(task: Task, server: Server, client: Client, honest: list[Any], seed: Any) -> list[Any]:
    """The attacker's replacement for each vector."""
    return [task.attack.factor * part for part in honest]
