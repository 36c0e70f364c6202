"""Seeds inside graphs: another one for every (seed, purpose, round, client), and the same in every process."""

import hashlib
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from fedpipe.learning.randomness import noise_file, noise_seed, seed_in_graph
from fedpipe.seeds import Purpose
from tests import ROOT

SEEDS, NUMBERS, CLIENTS = (0, 2024), (1, 2, 1000), (0, 1, 99_999)


def seeds() -> np.ndarray:
    """int32 [number, 2], drawn in one graph."""

    @tf.function(autograph=False)
    def drawn(number: tf.Tensor, client: tf.Tensor) -> tf.Tensor:
        return tf.stack([seed_in_graph(seed, purpose, number, client) for seed in SEEDS for purpose in Purpose])

    pairs = itertools.product(NUMBERS, CLIENTS)
    return np.concatenate([drawn(tf.constant(number), tf.constant(client)).numpy() for number, client in pairs])


def test_all_seeds_differ() -> None:
    all_seeds = seeds()
    assert all_seeds.dtype == np.int32 and len(all_seeds) == 2 * 3 * 3 * len(Purpose)
    assert len({tuple(seed) for seed in all_seeds.tolist()}) == len(all_seeds)


def test_round_and_client_cannot_be_mixed_up() -> None:
    pairs = itertools.product(range(8), range(8))
    distinct = {tuple(seed_in_graph(1, Purpose.CLIENT, a, b).numpy().tolist()) for a, b in pairs}
    assert len(distinct) == 64


def test_seeds_are_the_recorded_ones() -> None:
    """A change of the streams changes every result made from them, and must not come unnoticed."""
    assert seed_in_graph(2024, Purpose.CLIENT, tf.constant(3), tf.constant(4)).numpy().tolist() == [-1978900697, 4]


CODE = "from tests.fedpipe.learning.test_randomness import *; print(hashlib.sha256(seeds().tobytes()).hexdigest())"


@pytest.mark.slow  # tests/fedpipe/test_bits.py trains with them in two processes
def test_another_process_has_the_same_seeds() -> None:
    output = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert output.strip() == hashlib.sha256(seeds().tobytes()).hexdigest()


def test_seeds_of_noise_have_round_and_index_in_them() -> None:
    """Nothing is hashed, so no two are alike."""
    places = {tuple(noise_seed(1, None, a, b).numpy().tolist()) for a, b in itertools.product((1, 2, 10**6), range(9))}
    assert len(places) == 27
    assert noise_seed(2024, (2**64 - 1, 5), 3, 4).numpy().tolist() == [-1, 5 ^ ((3 << 32) | 4)]


def test_a_key_in_a_file_is_read_whenever_a_graph_runs(tmp_path: Path) -> None:
    seed = tf.function(lambda round_number: noise_seed(2024, tmp_path / "key", round_number, 4))
    for words in ((2**64 - 1, 5), (7, 2**63)):
        noise_file(tmp_path / "key", 3).write_bytes(np.array(words, "<u8").tobytes())
        assert seed(tf.constant(3)).numpy().tolist() == noise_seed(2024, words, 3, 4).numpy().tolist()
    with pytest.raises(tf.errors.NotFoundError):
        seed(tf.constant(4))
    assert noise_seed(2024, None, 3, 4).numpy().tolist() != noise_seed(2025, None, 3, 4).numpy().tolist()


def test_seeds_of_noise_are_the_recorded_ones() -> None:
    first, second = np.random.SeedSequence([2024, int(Purpose.NOISE)]).generate_state(2, np.uint64).view(np.int64)
    seed = noise_seed(2024, None, tf.constant(3), tf.constant(4))
    assert seed.dtype == tf.int64 and seed.numpy().tolist() == [first, second ^ ((3 << 32) | 4)]
