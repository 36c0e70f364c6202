"""Every client does what the algorithm says.

An attack has one or both of

    samples(task, client) -> client                           the samples that an attacker trains on
    contribution(task, server, client, sent) -> contribution  what it sends instead of ``sent``

which are called for the clients that ``train.attackers`` draws. Draw from ``task.attack_seed(client)``. It may have

    measure(params, predict, images, labels, classes) -> figures  of the global model on test samples, by column

for what else shows that it works (backdoor.py).
"""

from fedpipe.config.train import Train


def check(settings: Train) -> None:
    """Raises ValueError if there are attackers without an attack."""
    if settings.attackers:
        raise ValueError("'train.attackers' is above 0, but 'train.attack' is no_attack: choose an attack")
