"""A client's training on its own samples: a plain while loop over the shard in memory.

A tf.data iterator per batch and a serialized data set per client, as in TFF's stock simulation, cost several times the
arithmetic.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from fedpipe.config.train import Train
from fedpipe.lazy import tf
from fedpipe.learning import vectors
from fedpipe.learning.interface import Client
from fedpipe.learning.measurements import Counted, MeanPerExample, Measurement
from fedpipe.learning.optimizers import RoundOptimizer
from fedpipe.learning.randomness import seed_in_graph
from fedpipe.learning.work_request import WHOLE
from fedpipe.networks.augmentation import Augmentation
from fedpipe.networks.dropout import Dropout
from fedpipe.networks.network import Network, label_tensor
from fedpipe.seeds import Purpose

# (weights) -> the same batch's mean gradient under other weights, with the same dropout
GradientAt = Callable[[list[Any]], list[Any]]
# (gradients, weights, gradient_at) -> gradients
GradientHook = Callable[[list[Any], list[Any], GradientAt], list[Any]]
_FORWARD_BATCH = 100  # samples at a time in `mean_loss`


def pulled_to(center: list[Any], strength: float) -> GradientHook:
    """Adds the gradient of strength / 2 ||w - center||^2, which pulls the weights w to ``center``."""

    def pull(gradients: list[Any], weights: list[Any], gradient_at: GradientAt) -> list[Any]:
        return [g + strength * (w - middle) for g, w, middle in zip(gradients, weights, center, strict=True)]

    return pull


class Local(NamedTuple):
    """The result of local training."""

    weights: list[Any]  # after the last step
    update: list[Any]  # first weights less last ones
    steps: Any  # how many were taken, float32
    measurements: "OrderedDict[str, Measurement]"  # of the examples seen, each under the weights before its step


def batch_count(settings: Train, samples: Any) -> Any:
    """How many batches an epoch has over so many ``samples``: an integer, or a tensor or array of integers."""
    size = settings.batch_size
    return samples // size if settings.last_batch == "drop" else -(-samples // size)


def step_count(settings: Train, client: Client) -> Any:
    """How many local steps the client takes in a round, int32."""
    batches = batch_count(settings, sample_count(client))
    if settings.local_steps is None:
        steps = batches * settings.local_epochs
    else:
        steps = tf.where(batches > 0, settings.local_steps, 0)
    if client.work is None:
        return steps
    return tf.cast(-(-tf.cast(steps, tf.int64) * tf.cast(client.work, tf.int64) // WHOLE), tf.int32)


def train(
    network: Network,
    settings: Train,
    optimizer: RoundOptimizer,
    weights: list[Any],
    client: Client,
    hook: GradientHook | None = None,
    steps: Any = None,
    places: Any = None,
) -> Local:
    """Trains ``local_epochs`` over the client's samples (McMahan et al. 2017, algorithm 1, ClientUpdate).

    With ``local_steps``, it takes so many steps, and goes through the samples as often as that needs.

    Args:
      network: The model.
      settings: Section train of params.yaml: epochs, batches, order, weight decay, clipping.
      optimizer: The clients' optimizer.
      weights: What training starts from.
      client: The samples.
      hook: ``(gradients, weights, gradient_at) -> gradients``, applied to each step's mean gradient;
        ``gradient_at(others)`` is the mean gradient of the step's batch under other weights.
      steps: At most so many steps (int32 scalar); None for all. A client with ``work`` below 1000 takes fewer.
      places: The places int32 [n] of samples among the client's: trains on these once, in their order, in place of all
        that the settings say about epochs, steps and order.
    """
    samples, size = sample_count(client), settings.batch_size
    batches, total = batch_count(settings, samples), step_count(settings, client)
    if places is not None:
        batches = total = -(-tf.shape(places)[0] // size)
    if steps is not None:
        total = tf.minimum(total, steps)
    epochs: Any = settings.local_epochs
    if settings.local_steps is not None:
        epochs = -(-settings.local_steps // tf.maximum(batches, 1))
    if places is not None:
        order = places[tf.newaxis]
    else:
        order = _order(settings, client, samples, epochs) if settings.shuffle else None
    dropout_seed, augmentation_seed = (
        seed_in_graph(settings.seed, purpose, client.round, client.id)
        for purpose in (Purpose.DROPOUT, Purpose.AUGMENTATION)
    )
    decay, clip_norm = settings.client_optimizer.weight_decay, settings.client_optimizer.clip_norm

    def step(index: Any, now: Any, state: Any, sums: Any) -> tuple[Any, ...]:
        start = (index % batches) * size
        batch = slice(start, start + size)
        if order is None:
            images, labels = client.images[batch], label_tensor(client.labels[batch])
        else:
            chosen = order[index // batches, batch]
            images, labels = tf.gather(client.images, chosen), label_tensor(tf.gather(client.labels, chosen))
        seeds = [
            tf.random.experimental.stateless_fold_in(seed, index, alg="philox")
            for seed in (dropout_seed, augmentation_seed)
        ]

        def gradient_at(at: list[Any]) -> tuple[list[Any], Any, Any, list[Any]]:
            with tf.GradientTape() as tape:
                tape.watch(at)
                draws = Dropout(seeds[0]), Augmentation(seeds[1])
                logits, statistics = network.train_forward(at, network.scaled(images), *draws)
                losses = weighted_losses(network, settings, labels, logits)
                loss = tf.reduce_mean(losses)
            return _gradients(network, tape, loss, at), losses, logits, statistics

        gradients, losses, logits, statistics = gradient_at(now)
        if hook is not None:
            gradients = hook(gradients, now, lambda at: gradient_at(list(at))[0])
        gradients, trained = network.trained(gradients), network.trained(now)
        if decay:
            gradients = [g + decay * w for g, w in zip(gradients, trained, strict=True)]
        if clip_norm:
            gradients = clip(gradients, clip_norm)
        state, trained = optimizer.step(state, trained, gradients)
        now = network.whole(trained, statistics)
        return (
            index + 1,
            now,
            state,
            tf.nest.map_structure(tf.add, sums, _measured(network, settings, labels, losses, logits)),
        )

    state = optimizer.at_round(optimizer.start(network.trained(weights)), client.round)
    loop = (tf.constant(0), list(weights), state, zero_sums(network, settings))
    _, last, _, sums = tf.while_loop(lambda index, *_: index < total, step, loop)
    update = [before - after for before, after in zip(weights, last, strict=True)]
    return Local(last, update, tf.cast(total, tf.float32), sums)


def full_gradient(network: Network, settings: Train, weights: list[Any], client: Client) -> tuple[list[Any], Any]:
    """Mean gradient and mean loss over all of the client's samples under ``weights``, a batch at a time."""
    gradient, measurements = measured_gradient(network, settings, weights, client)
    return gradient, measurements["loss"].total / _count(client)


def measured_gradient(
    network: Network, settings: Train, weights: list[Any], client: Client
) -> tuple[list[Any], "OrderedDict[str, Measurement]"]:
    """Mean gradient over all of the client's samples under ``weights``, and the measurements of a training on them."""
    samples, size = sample_count(client), settings.batch_size

    def step(start: Any, sums: Any, gradients: Any) -> tuple[Any, ...]:
        batch = slice(start, start + size)
        labels = label_tensor(client.labels[batch])
        with tf.GradientTape() as tape:
            tape.watch(weights)
            logits = network.forward(weights, network.scaled(client.images[batch]), Dropout())
            losses = weighted_losses(network, settings, labels, logits)
            loss = tf.reduce_sum(losses)
        more = _gradients(network, tape, loss, weights)
        sums = tf.nest.map_structure(tf.add, sums, _measured(network, settings, labels, losses, logits))
        return start + size, sums, [a + b for a, b in zip(gradients, more, strict=True)]

    loop = (tf.constant(0), zero_sums(network, settings), [tf.zeros_like(w) for w in weights])
    _, sums, gradients = tf.while_loop(lambda start, *_: start < samples, step, loop)
    return [g / _count(client) for g in gradients], sums


def weighted_losses(network: Network, settings: Train, labels: Any, logits: Any) -> Any:
    """The loss float32 [n] of each example, times the weight of its class if ``class_weights`` has one."""
    losses = network.losses(labels, logits)
    if not settings.class_weights:
        return losses
    return losses * tf.gather(tf.constant(settings.class_weights, tf.float32), labels)


def mean_loss(network: Network, settings: Train, weights: list[Any], client: Client) -> Any:
    """Mean loss of the client's samples under ``weights``; 0 without samples."""
    samples = sample_count(client)

    def step(start: Any, total: Any) -> tuple[Any, Any]:
        batch = slice(start, start + _FORWARD_BATCH)
        logits = network.forward(weights, network.scaled(client.images[batch]), Dropout())
        losses = weighted_losses(network, settings, label_tensor(client.labels[batch]), logits)
        return start + _FORWARD_BATCH, total + tf.reduce_sum(losses)

    _, loss = tf.while_loop(lambda start, _: start < samples, step, (tf.constant(0), tf.constant(0.0)))
    return loss / _count(client)


def clip(tensors: list[Any], norm: Any) -> list[Any]:
    """``tensors`` scaled down to the L2 norm ``norm`` over all of them, if theirs is above it."""
    own = vectors.norm(tensors)
    factor = tf.minimum(1.0, tf.math.divide_no_nan(norm, own))
    factor = tf.where(own > 0, factor, 1.0)
    return [t * factor for t in tensors]


def sample_count(client: Client) -> Any:
    """How many samples the client has, int32."""
    return tf.shape(client.labels)[0]


def _gradients(network: Network, tape: Any, loss: Any, weights: list[Any]) -> list[Any]:
    """Gradients as tensors: that of an embedding comes as rows with their places, and of statistics they are zeros."""
    gradients = map(tf.convert_to_tensor, tape.gradient(loss, network.trained(weights)))
    still = [tf.zeros(shape) for name, shape in network.shapes.items() if name in network.statistics]
    return network.whole(list(gradients), still)


def _count(client: Client) -> Any:
    """How many samples the client has, float32, and 1 for none."""
    return tf.maximum(tf.cast(sample_count(client), tf.float32), 1.0)


def _order(settings: Train, client: Client, samples: Any, epochs: Any) -> Any:
    """A new order of the samples for each epoch: int32 [epochs, n]."""
    seed = seed_in_graph(settings.seed, Purpose.SHUFFLE, client.round, client.id)
    shape = tf.stack([epochs, samples])
    drawn = tf.random.stateless_uniform(shape, seed, None, None, tf.int32, alg="philox")
    return tf.argsort(drawn, axis=1, stable=True)


def zero_sums(network: Network, settings: Train) -> "OrderedDict[str, Measurement]":
    """Zeros for the measurements of `train`."""
    sums: OrderedDict[str, Measurement] = OrderedDict(
        loss=MeanPerExample(tf.constant(0.0)),
        accuracy=MeanPerExample(tf.constant(0, tf.int64 if network.spec.format.numbers is None else tf.float32)),
        seen=Counted(tf.constant(0, tf.int64)),
    )
    return sums | {name: MeanPerExample(tf.constant(0.0)) for name in _further(settings)}


def _measured(
    network: Network, settings: Train, labels: Any, losses: Any, logits: Any
) -> "OrderedDict[str, Measurement]":
    """The measurements of a batch."""
    hits = network.goodness(labels, logits)
    measured: OrderedDict[str, Measurement] = OrderedDict(
        loss=MeanPerExample(tf.reduce_sum(losses)),
        accuracy=MeanPerExample(tf.reduce_sum(hits)),
        seen=Counted(tf.shape(labels, out_type=tf.int64)[0]),
    )
    for name in _further(settings):
        values = tf.cast(network.measured(name, labels, logits), tf.float32)
        measured[name] = MeanPerExample(tf.reduce_sum(values))
    return measured


def _further(settings: Train) -> list[str]:
    """The metrics that are measured beside the accuracy, which always is."""
    return [name for name in settings.metrics if name != "accuracy"]
