"""Ditto beside FedAvg (test_papers.py compares it with its paper)."""

from collections.abc import Callable
from pathlib import Path

from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms.reference import COHORTS, SIZES, TRAINING
from tests.fedpipe.training import run, same_bits, train_settings

Make = Callable[[list[int]], Path]


def test_the_global_model_is_fed_avgs(worker: Worker, make_shards: Make) -> None:
    shards = make_shards(SIZES)
    ditto = run(worker, train_settings(**TRAINING, algorithm="ditto"), shards, COHORTS)
    average = run(worker, train_settings(**TRAINING), shards, COHORTS)
    assert same_bits(ditto.weights, average.weights) and ditto.bytes == average.bytes
