"""Bytes of a round are the lengths of messages that are made here, and that hold all that the other side needs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from fedpipe.contracts.aggregator import AGGREGATORS, Aggregator
from fedpipe.contracts.algorithm import ALGORITHMS, Algorithm
from fedpipe.contracts.compressor import COMPRESSORS
from fedpipe.learning.client_work import first_kept, keeps_state
from fedpipe.learning.clients import ClientReader
from fedpipe.learning.interface import Client, Contribution, Nothing, Server
from fedpipe.learning.process import build_process
from fedpipe.learning.task import Task
from fedpipe.learning.vectors import hadamard, random_signs
from tests.fedpipe.algorithms import reference
from tests.fedpipe.bits import NEEDED, weighting
from tests.fedpipe.training import FEDERATED, dense_with_batch_norm, model_of, train_settings

Make = Callable[[list[int]], Path]
SIZES = [3, 4, 2]
ME = 1


class Setup(NamedTuple):
    """A training that is described, and one of its clients; its functions run as they are, without TFF."""

    task: Task
    algorithm: Algorithm
    aggregator: Aggregator
    server: Server
    client: Client
    shards: Path

    @property
    def counted(self) -> tuple[int, int]:
        """Bytes down and up, without a compressed update."""
        first = [w.numpy() for w in self.server.weights]
        kept = Path("nothing is written there") if keeps_state(self.task, self.algorithm) else None
        process = build_process(self.task, self.algorithm, self.aggregator, first, ClientReader(self.shards, kept))
        return process.bytes[:2]

    def contributions(self) -> list[Contribution]:
        """What the client sends in each pass."""
        steps = self.algorithm.steps(self.task)
        return [update(self.task, self.server, self.client) for update, _ in steps]


def setup(make_shards: Make, **changes: Any) -> Setup:
    settings = train_settings(**{"model": "logistic_regression", "batch_size": 2, **changes})
    shards = make_shards(SIZES)
    model = (dense_with_batch_norm if settings.algorithm == "fed_bn" else model_of)(settings)
    task = Task(model, settings, len(SIZES))
    algorithm, aggregator = ALGORITHMS.of(settings.algorithm), AGGREGATORS.of(settings.aggregator)
    weights = [tf.constant(w) for w in model.first_weights(np.random.default_rng(5))]
    images, labels = reference.read_shard(shards, ME)
    server = Server(
        weights,
        task.server_optimizer.start(task.network.trained(weights)),
        algorithm.server_init(task),
        aggregator.server_init(task),
        tf.constant(1),
    )
    kept = first_kept(task, algorithm).algorithm
    client = Client(tf.constant(images), tf.constant(labels), tf.constant(ME), tf.constant(1), kept)
    return Setup(task, algorithm, aggregator, server, client, shards)


def packed(*arrays: Any) -> bytes:
    return b"".join(np.asarray(leaf).tobytes() for leaf in tf.nest.flatten(arrays))


def same(first: Any, other: Any) -> None:
    for a, b in zip(tf.nest.flatten(first), tf.nest.flatten(other), strict=True):
        np.testing.assert_array_equal(a, b)


def up(setup: Setup) -> bytes:
    """What the client sends; the server can make the tensors of the simulation of it."""
    sent = setup.contributions()
    if setup.task.settings.algorithm == "ifca":
        ((update, weight, measured, _, sums, _),) = sent
        number = np.int32(np.argmax(sums[0]))
        mine = np.eye(setup.task.algorithm.clusters, dtype=np.float32)[number]
        alone = [part[number].numpy() for part in update]
        same(update, [mine.reshape(-1, *[1] * part.ndim) * part for part in alone])
        same(sums, (mine * weight.numpy(), mine * float(measured["seen"].total)))
        return packed(alone, number)
    if setup.task.settings.algorithm == "afl":
        loss = sent[0].sums[ME]
        same(sent[0].sums, np.eye(len(SIZES), dtype=np.float32)[ME] * loss)
        return packed(sent[0].update, loss)
    return b"".join(packed(each.update, each.means, each.sums) for each in sent)


def down(setup: Setup) -> bytes:
    """What the client gets."""
    name, server, task = setup.task.settings.algorithm, setup.server, setup.task
    seen = setup.algorithm.broadcast(task, server)
    if name == "ifca":
        return packed(seen)  # the weights are one of these
    if name == "afl":
        return packed(server.weights, seen[ME])
    if name == "mime":
        return packed(server.weights, seen["momentum"]) + packed(seen["mean_gradient"])
    if name in ("fed_per", "fed_rep"):
        base = len(setup.contributions()[0].update)
        assert 0 < base < len(server.weights)
        return packed(server.weights[:base])
    if name == "fed_bn":
        own = setup.task.network.batch_norm
        base = [w for part, w in zip(setup.task.network.shapes, server.weights, strict=True) if part not in own]
        assert len(base) == len(setup.contributions()[0].update) < len(server.weights)
        return packed(base)
    return packed(server.weights, seen)


@pytest.mark.parametrize("name", FEDERATED)
def test_bytes_of_each_algorithm_are_those_of_its_messages(make_shards: Make, name: str) -> None:
    made = setup(make_shards, algorithm=name, **{name: {}, **NEEDED.get(name, {})})
    assert made.counted == (len(down(made)), len(up(made)))


@pytest.mark.parametrize("name", ["fed_per", "fed_rep"])
def test_the_head_that_does_not_go_down_never_changes(make_shards: Make, name: str) -> None:
    made = setup(make_shards, algorithm=name, **NEEDED[name])
    update = made.contributions()[0].update
    total: Any = type("Total", (), {"update": update})
    after = made.algorithm.server_update(made.task, made.server, total)
    same(after.weights[len(update) :], made.server.weights[len(update) :])
    assert any((a.numpy() != b.numpy()).any() for a, b in zip(after.weights, made.server.weights, strict=True))


def bit_string(numbers: np.ndarray, bits: int) -> bytes:
    """Whole numbers, packed."""
    places = np.arange(bits, dtype=np.uint64)
    return np.packbits((numbers.astype(np.uint64)[:, np.newaxis] >> places & np.uint64(1)).astype(np.uint8)).tobytes()


def read_bits(content: bytes, bits: int, count: int) -> np.ndarray:
    """The opposite of `bit_string`."""
    matrix = np.unpackbits(np.frombuffer(content, np.uint8))[: bits * count].reshape(count, bits).astype(np.uint64)
    return (matrix << np.arange(bits, dtype=np.uint64)).sum(axis=1, dtype=np.uint64)


@pytest.mark.parametrize("name", AGGREGATORS.names)
def test_bytes_of_each_aggregator_are_those_of_its_messages(make_shards: Make, name: str) -> None:
    section = {"bits": 21} if name == "secure_sum" else {}
    made = setup(make_shards, aggregator=name, client_weighting=weighting(name), **{name: section})
    (sent,) = made.contributions()
    encoded = made.aggregator.encode(made.task, made.server.aggregator, sent.update, sent.weight, made.client)
    message = packed(sent.update)
    if name == "secure_sum":
        integers = np.concatenate([part.numpy().ravel() for part in encoded])
        message = bit_string(integers, 21)
        np.testing.assert_array_equal(read_bits(message, 21, len(integers)).astype(np.int64), integers)
    assert made.counted == (len(packed(made.server.weights)), len(message))


def test_adaptive_clipping_sends_a_number_more_each_way(make_shards: Make) -> None:
    private = {"aggregator": "dp_gaussian", "client_weighting": "uniform", "dp_gaussian": {"clipping": "adaptive"}}
    made = setup(make_shards, **private)
    (sent,) = made.contributions()
    encoded = made.aggregator.encode(made.task, made.server.aggregator, sent.update, sent.weight, made.client)
    assert made.counted == (len(packed(made.server.weights, made.server.aggregator)), len(packed(encoded)))
    assert made.counted[1] == len(packed(sent.update)) + 4


def compressed(made: Setup) -> tuple[list[np.ndarray], list[np.ndarray], int]:
    """The client's update, what the server makes of its message, and the bytes that are counted."""
    (sent,) = made.contributions()
    residual = [tf.zeros(part.shape) for part in sent.update]
    compressor = COMPRESSORS.of(made.task.settings.compressor)
    decoded, _, size = compressor.compress(made.task, sent.update, made.client, residual)
    assert made.counted[1] == 0  # of the update, nothing goes besides
    return [part.numpy() for part in sent.update], [part.numpy() for part in decoded], int(size)


def values_at(message: bytes, count: int, places: np.ndarray, shapes: list[Any]) -> list[np.ndarray]:
    flat = np.zeros(sum(int(np.prod(shape)) for shape in shapes), np.float32)
    flat[places] = np.frombuffer(message[: 4 * count], np.float32)
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(flat, ends), shapes, strict=True)]


@pytest.mark.parametrize("share", [0.01, 0.1])
def test_bytes_of_top_k_are_those_of_its_message(make_shards: Make, share: float) -> None:
    """Few places go as numbers, many as one bit for each entry."""
    update, decoded, size = compressed(setup(make_shards, compressor="top_k", top_k={"share": share}))
    flat = np.concatenate([part.ravel() for part in decoded])
    places, width = np.flatnonzero(flat), int(flat.size - 1).bit_length()
    values, mask = flat[places].tobytes(), np.packbits(flat != 0).tobytes()
    numbers = bit_string(places, width)
    message = values + min(numbers, mask, key=len)
    assert size == len(message)
    decoded_values = (
        read_bits(message[len(values) :], width, len(places)).astype(np.int64)
        if len(numbers) < len(mask)
        else np.flatnonzero(np.unpackbits(np.frombuffer(message[len(values) :], np.uint8))[: flat.size])
    )
    same(values_at(message, len(places), decoded_values, [part.shape for part in update]), decoded)


def test_bytes_of_random_k_are_those_of_its_message(make_shards: Make) -> None:
    made = setup(make_shards, compressor="random_k", random_k={"share": 0.1})
    update, decoded, size = compressed(made)
    flat, count = np.concatenate([part.ravel() for part in update]), 785
    seed = made.task.compression_seed(made.client).numpy()

    def places_of(seed: np.ndarray) -> np.ndarray:
        drawn = tf.random.stateless_uniform([flat.size], seed, None, None, tf.int32, alg="philox")
        return tf.math.top_k(drawn, count, sorted=False).indices.numpy()

    message = flat[places_of(seed)].tobytes() + seed.tobytes()
    assert size == len(message)
    places = places_of(np.frombuffer(message[-8:], np.int32))
    same(values_at(message, count, places, [part.shape for part in update]), decoded)


@pytest.mark.parametrize(("rotate", "rounding"), [(False, "stochastic"), (True, "nearest")])
def test_bytes_of_quantisation_are_those_of_its_message(make_shards: Make, rotate: bool, rounding: str) -> None:
    section = {"bits": 5, "rounding": rounding, "rotate": rotate}
    made = setup(make_shards, compressor="quantisation", quantisation=section)
    _, decoded, size = compressed(made)
    seed = made.task.compression_seed(made.client)
    message, rebuilt = seed.numpy().tobytes() if rotate else b"", []
    for index, part in enumerate(decoded):
        vector, padded = part.ravel(), part.size
        if rotate:
            padded = 1 << (part.size - 1).bit_length()
            own = tf.random.experimental.stateless_fold_in(seed, index, alg="philox")
            signs = random_signs(padded, tf.random.experimental.stateless_fold_in(own, 1, alg="philox"))
            (sent,) = made.contributions()
            mixed = hadamard(tf.pad(tf.reshape(sent.update[index], [-1]), [[0, padded - part.size]]) * signs).numpy()
            assert len(mixed) == padded  # so many levels go up
            vector = mixed
        least, most = vector.min(), vector.max()
        step = (most - least) / 31
        levels = np.round((vector - least) / step)
        content = bit_string(levels, 5) + np.array([least, most], np.float32).tobytes()
        assert levels.max() == 31 and levels.min() == 0
        if not rotate:
            read = read_bits(content, 5, padded)
            low, high = np.frombuffer(content[-8:], np.float32)
            rebuilt.append((low + read * (high - low) / 31).reshape(part.shape))
        message += content
    assert size == len(message)
    for first, other in zip(rebuilt, decoded, strict=False):
        np.testing.assert_allclose(first, other, rtol=0, atol=1e-6)


def test_fed_dyn_needs_nothing_besides_a_compressed_update(make_shards: Make) -> None:
    made = setup(make_shards, algorithm="fed_dyn", fed_dyn={}, compressor="top_k")
    assert made.counted[1] == 0


def test_state_of_the_server_that_stays_there_is_not_counted(make_shards: Make) -> None:
    made = setup(make_shards, algorithm="fed_dyn", fed_dyn={}, server_optimizer={"momentum": 0.9})
    assert made.server.state is not Nothing and made.counted[0] == 4 * 7_850
