"""One learner that has the samples of all clients: how many each round has, and which."""

from typing import Any

import numpy as np

from fedpipe.config.train import Train
from fedpipe.contracts.cohort import COHORTS
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client
from fedpipe.learning.local_training import batch_count, sample_count
from fedpipe.learning.randomness import seed_in_graph
from fedpipe.learning.task import Task
from fedpipe.seeds import Purpose


def samples_before(settings: Train, sizes: np.ndarray) -> tuple[int, ...]:
    """How many samples the clients of all earlier rounds would have seen, for each round and after the last one.

    Args:
      settings: Section train of params.yaml.
      sizes: int64 [clients], the number of samples of each client.
    """
    draw, available = COHORTS.of(settings.cohort).draw, np.arange(len(sizes))
    if draw is None:  # fedpipe/compatibility/baselines.py refuses it
        raise TypeError(f"the cohort {settings.cohort} needs the clients' losses")
    of_client = _seen(settings, sizes)
    seen = [int(of_client[draw(settings, available, sizes, number)].sum()) for number in range(1, settings.rounds + 1)]
    return (0, *np.cumsum(seen).tolist())


def _seen(settings: Train, sizes: np.ndarray) -> np.ndarray:
    """The number of samples that each client sees in a round, int64 [clients]."""
    batches, size = batch_count(settings, sizes), settings.batch_size
    in_epoch = np.minimum(batches * size, sizes)
    if settings.local_steps is None:
        return np.asarray(in_epoch * settings.local_epochs, np.int64)
    epochs, rest = np.divmod(settings.local_steps, np.maximum(batches, 1))
    return np.where(batches > 0, epochs * in_epoch + np.minimum(rest * size, in_epoch), 0).astype(np.int64)


def drawn(task: Task, client: Client) -> Any:
    """The places of the round's samples among the client's, in the order of training: int32 [n].

    The n of each round are the next of one sequence, which goes through all samples again and again, each time in
    another order.
    """
    before, samples = tf.constant(task.samples_before, tf.int64), tf.cast(sample_count(client), tf.int64)
    start, end = before[client.round - 1], before[client.round]
    first = start // samples
    passes = tf.range(first, tf.maximum(-(-end // samples), first + 1))

    def order(number: Any) -> Any:
        seed = seed_in_graph(task.settings.seed, Purpose.ALL_SAMPLES, tf.cast(number, tf.int32))
        values = tf.random.stateless_uniform([samples], seed, None, None, tf.int32, alg="philox")
        return tf.argsort(values, stable=True)

    orders = tf.map_fn(order, passes, fn_output_signature=tf.int32)
    return tf.reshape(orders, [-1])[start - first * samples : end - first * samples]
