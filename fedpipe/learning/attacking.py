"""The attackers' samples and messages: the attack of ``train.attack`` at the clients that ``train.attackers`` draws.

What a client sends is vectors and numbers. A vector is the update, and among ``means`` and ``sums`` each structure in
the update's shapes (SCAFFOLD's control variate, MimeLite's gradient); the attack's `vector` takes the place of each,
in every pass of a round. A vector among ``sums`` has the client's weight as a factor, and so has the attack's in its
place, as the server multiplies updates and ``means`` by the weight. A number among ``means`` (FedNova's length) is
attacked as a vector with one entry, and the algorithm's `sendable` keeps it within the bounds that a server can check.
Other numbers stay honest: a client's weight and IFCA's cluster follow from the params and the client's samples.
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
        """The attacker's message instead of ``honest``; its state and its measurements stay.

        The algorithm's `sendable` says what a device would send of it; ``later`` passes of the round follow.
        """
        if self._attack.vector is None or not self._attackers.any():
            return honest
        messages = honest.update, honest.means, honest.sums

        def poisoned() -> tuple[Any, ...]:
            update, means, sums = self._poisoned(server, client, honest, later)
            sent = algorithm.sendable(
                self._task, client, honest, honest._replace(update=update, means=means, sums=sums)
            )
            return tuple(tf.nest.flatten((sent.update, sent.means, sent.sums)))

        leaves = tf.cond(self._is_attacker(client), poisoned, lambda: tuple(tf.nest.flatten(messages)))
        update, means, sums = tf.nest.pack_sequence_as(messages, list(leaves))
        return honest._replace(update=update, means=means, sums=sums)

    def _poisoned(self, server: Server, client: Client, honest: Contribution, later: int) -> Tensors:
        """Update, means and sums with the attack's vector in the place of each; each has a seed of its own."""
        kind, seed = _kind(honest.update), self._task.attack_seed(client)
        vectors = 0

        def changed(part: Tensors, factor: Any) -> Tensors:
            nonlocal vectors
            is_number = factor is None and tf.is_tensor(part) and part.shape.rank == 0
            if (_kind(part) == kind or is_number) and self._attack.vector is not None:
                own = _folded(seed, -1 - later, vectors) if later or vectors else seed
                vectors += 1
                leaves = tf.nest.flatten(part)
                if factor is not None:
                    leaves = [tf.math.divide_no_nan(leaf, factor) for leaf in leaves]
                vector = self._attack.vector(self._task, server, client, leaves, own)
                if factor is not None:
                    vector = [factor * leaf for leaf in vector]
                return tf.nest.pack_sequence_as(part, vector)
            if isinstance(part, dict):
                return {key: changed(part[key], factor) for key in part}
            if isinstance(part, (list, tuple)):
                return type(part)([changed(each, factor) for each in part])
            return part

        return changed(honest.update, None), changed(honest.means, None), changed(honest.sums, honest.weight)

    def _is_attacker(self, client: Client) -> Any:
        return tf.gather(tf.constant(self._attackers), client.id)


def _kind(part: Tensors) -> tuple[type, list[Any]]:
    """Structure and shapes, which all vectors of a kind share."""
    return type(part), [leaf.shape for leaf in tf.nest.flatten(part)]


def _folded(seed: Any, *numbers: int) -> Any:
    for number in numbers:
        seed = tf.random.experimental.stateless_fold_in(seed, number, alg="philox")
    return seed
