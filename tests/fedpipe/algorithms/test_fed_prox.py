"""FedProx beside FedAvg (test_papers.py compares it with its paper)."""

from collections.abc import Callable
from pathlib import Path

from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms.reference import COHORTS, SIZES, TRAINING
from tests.fedpipe.training import run, same_bits, train_settings

Make = Callable[[list[int]], Path]


def test_without_a_pull_it_is_fed_avg(worker: Worker, make_shards: Make) -> None:
    shards = make_shards(SIZES)
    prox = run(worker, train_settings(**TRAINING, algorithm="fed_prox", fed_prox={"mu": 0.0}), shards, COHORTS)
    assert same_bits(prox.weights, run(worker, train_settings(**TRAINING), shards, COHORTS).weights)
