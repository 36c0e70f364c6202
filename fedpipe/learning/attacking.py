"""What attackers train on and send: the attack of ``train.attack`` at the clients that ``train.attackers`` draws.

What a client sends is vectors and numbers. A vector is the update, and among ``means`` and ``sums`` each structure in
the update's shapes (SCAFFOLD's control variate, MimeLite's gradient); the attack's `vector` takes the place of each,
in every pass of a round. Numbers stay honest: a client's weight, FedNova's length and IFCA's cluster follow from the
params and the client's samples, and a server that checks them takes no others.
"""

from typing import Any

from fedpipe.contracts.algorithm import Algorithm
from fedpipe.contracts.attack import ATTACKS
from fedpipe.lazy import tf
from fedpipe.learning.attackers import attackers
from fedpipe.learning.interface import Client, Contribution, Server, Tensors
from fedpipe.learning.task import Task


class Attacking:
    """The attack at a client, which leaves honest clients as they are."""

    def __init__(self, task: Task) -> None:
        """``task``: model and params."""
        self._task = task
        self._attack = ATTACKS.of(task.settings.attack)
        self._attackers = attackers(task.settings, task.clients)

    def samples(self, client: Client) -> Client:
        """The client with the samples that it trains on."""
        samples = self._attack.samples
        if samples is None or not self._attackers.any():
            return client

        def poisoned() -> tuple[Any, Any]:
            other = samples(self._task, client)
            return other.images, other.labels

        images, labels = tf.cond(self._is_attacker(client), poisoned, lambda: (client.images, client.labels))
        return client._replace(images=images, labels=labels)

    def contribution(
        self, algorithm: Algorithm, server: Server, client: Client, honest: Contribution, later: int
    ) -> Contribution:
        """What the client sends; what it keeps and measures stays.

        Args:
          algorithm: Its file, whose `sendable` says what a device would send of an attacked contribution.
          server: What clients see of it.
          client: The client.
          honest: What it would send if it were no attacker.
          later: How many passes of the round follow.
        """
        if self._attack.vector is None or not self._attackers.any():
            return honest
        messages = honest.update, honest.means, honest.sums

        def poisoned() -> tuple[Any, ...]:
            update, means, sums = self._poisoned(server, client, messages, later)
            sent = algorithm.sendable(honest, honest._replace(update=update, means=means, sums=sums))
            return tuple(tf.nest.flatten((sent.update, sent.means, sent.sums)))

        leaves = tf.cond(self._is_attacker(client), poisoned, lambda: tuple(tf.nest.flatten(messages)))
        update, means, sums = tf.nest.pack_sequence_as(messages, list(leaves))
        return honest._replace(update=update, means=means, sums=sums)

    def _poisoned(self, server: Server, client: Client, messages: tuple[Tensors, ...], later: int) -> Tensors:
        """``messages``, the update first, with the attack's vector in the place of each; each has a seed of its own."""
        kind, seed = _kind(messages[0]), self._task.attack_seed(client)
        vectors = 0

        def changed(part: Tensors) -> Tensors:
            nonlocal vectors
            if _kind(part) == kind and self._attack.vector is not None:
                own = _folded(seed, -1 - later, vectors) if later or vectors else seed
                vectors += 1
                vector = self._attack.vector(self._task, server, client, tf.nest.flatten(part), own)
                return tf.nest.pack_sequence_as(part, vector)
            if isinstance(part, dict):
                return {key: changed(part[key]) for key in part}
            return type(part)(map(changed, part)) if isinstance(part, (list, tuple)) else part

        return tuple(map(changed, messages))

    def _is_attacker(self, client: Client) -> Any:
        return tf.gather(tf.constant(self._attackers), client.id)


def _kind(part: Tensors) -> tuple[type, list[Any]]:
    """What two vectors of a client have in common."""
    return type(part), [leaf.shape for leaf in tf.nest.flatten(part)]


def _folded(seed: Any, *numbers: int) -> Any:
    for number in numbers:
        seed = tf.random.experimental.stateless_fold_in(seed, number, alg="philox")
    return seed
