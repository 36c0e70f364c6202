"""Every client follows the algorithm; docs/extending.md has the functions of an attack."""

from fedpipe.config.train import Train
from fedpipe.learning.interface import Client
from fedpipe.learning.task import Task


def check(settings: Train) -> None:
    """Raises ValueError if there are attackers without an attack."""
    if settings.attackers:
        raise ValueError("'train.attackers' is above 0, but 'train.attack' is no_attack: choose an attack")


def samples(task: Task, client: Client) -> Client:
    """The client's own samples."""
    return client
