"""An attacker sends the opposite of its update, ``scale`` times as long: update' = -scale x update.

Source: Li et al. 2019, "RSA: Byzantine-Robust Stochastic Aggregation Methods for Distributed Learning from
Heterogeneous Datasets", section 5.2, https://arxiv.org/abs/1811.03761 (there with scale 4).
"""

from typing import Any

from fedpipe.config.section import Positive, Section
from fedpipe.learning.interface import Client, Server
from fedpipe.learning.task import Task


class Params(Section):
    """``scale``: how long the flipped update is, in lengths of the honest one."""

    scale: Positive = 1.0


def vector(task: Task, server: Server, client: Client, honest: list[Any], seed: Any) -> list[Any]:
    """The attacker's replacement for each vector."""
    return [-task.attack.scale * part for part in honest]
