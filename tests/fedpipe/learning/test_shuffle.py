"""The order of a client's samples: drawn anew for each epoch, round and client, and the same everywhere."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from fedpipe.config import Train
from fedpipe.learning.interface import Client
from fedpipe.learning.local_training import _order
from tests import ROOT
from tests.fedpipe.training import train_settings


def orders(settings: Train, client: int, number: int, samples: int) -> np.ndarray:
    request = Client(None, None, tf.constant(client), tf.constant(number))
    return _order(settings, request, tf.constant(samples), tf.constant(settings.local_epochs)).numpy()


@given(samples=st.integers(0, 60), epochs=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_every_epoch_takes_each_sample_once(samples: int, epochs: int, seed: int) -> None:
    drawn = orders(train_settings(local_epochs=epochs, seed=seed), 3, 2, samples)
    assert drawn.shape == (epochs, samples)
    assert (np.sort(drawn, axis=1) == np.arange(samples)).all()


def test_epochs_rounds_clients_and_seeds_have_other_orders() -> None:
    drawn = [
        tuple(order)
        for seed, client, number in itertools.product((1, 2), (0, 1, 7), (1, 2))
        for order in orders(train_settings(local_epochs=3, seed=seed), client, number, 20)
    ]
    assert len(set(drawn)) == len(drawn) == 36


def test_any_place_is_as_likely_as_any_other() -> None:
    drawn = orders(train_settings(local_epochs=2000), 0, 1, 5)
    counts = np.array([np.bincount(drawn[:, place], minlength=5) for place in range(5)])
    assert np.abs(counts - 400).max() < 5 * np.sqrt(2000 * 0.2 * 0.8)


CODE = """
from tests.fedpipe.learning.test_shuffle import *
print(orders(train_settings(local_epochs=2), 5, 3, 30).tobytes().hex())
"""


@pytest.mark.slow  # tests/fedpipe/test_bits.py trains with it in two processes
def test_another_process_draws_the_same() -> None:
    output = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert output.strip() == orders(train_settings(local_epochs=2), 5, 3, 30).tobytes().hex()
