"""Golden digests: a change of a stream changes every result made from it, and must not come unnoticed."""

import hashlib
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from fedpipe import params
from fedpipe.config.partition import Concept, Features
from fedpipe.contracts.partition import QUANTITIES
from fedpipe.networks.network import network
from fedpipe.networks.spec import ModelSpec
from fedpipe.partitioning.assignment import assign
from fedpipe.partitioning.client_skew import Skew
from fedpipe.partitioning.held_out_samples import split
from fedpipe.runtime.cohort import cohort
from fedpipe.seeds import Purpose, generator
from tests import RECIPE
from tests.fedpipe.partitioning.settings import partition


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def test_streams_differ_by_every_part() -> None:
    keys = [(1, Purpose.PARTITION, 0, 0), (2, Purpose.PARTITION, 0, 0), (1, Purpose.COHORT, 0, 0)]
    keys += [(1, Purpose.PARTITION, 1, 0), (1, Purpose.PARTITION, 0, 1)]
    assert len({generator(*key).integers(2**62) for key in keys}) == len(keys)


def test_generator() -> None:
    assert digest(generator(2024, Purpose.COHORT, 3, 4).integers(0, 2**32, 100)) == "8b8b40dc280d410e"


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [("iid", "b7e48492297706ba"), ("shards", "f93b241759403745"), ("dirichlet", "8a40c372af8e9fae")],
)
def test_partition(scheme: str, expected: str) -> None:
    settings = partition(scheme=scheme, clients=20, seed=2024, dirichlet={"alpha": 0.3, "min_size": 5})
    assert digest(assign(np.arange(5_000) * 7 % 10, settings)) == expected


@pytest.mark.parametrize(
    ("scheme", "quantity", "expected"),
    [
        ("dirichlet", "even", "6ac24b01cb3f75c8"),
        ("inner_dirichlet", "even", "c5ad3b5724e45355"),
        ("pathological", "even", "7687c6904e5d49c4"),
        ("distribution", "even", "9d14634658270755"),
        ("shards", "exponential", "8f2705a03204ff0e"),
        ("iid", "lognormal", "fac9cf2e39454689"),
        ("inner_dirichlet", "dirichlet_quantity", "af30581c9ff9857d"),
        ("pathological", "exponential", "3af5a7e3f0ff190c"),
    ],
)
def test_partition_with_more_params(scheme: str, quantity: str, expected: str) -> None:
    """Self-balancing, a random choice of classes, samples left out, and equal fractions to round."""
    settings = partition(
        scheme=scheme,
        quantity=quantity,
        clients=20,
        leave_out=100,
        seed=2024,
        dirichlet={"alpha": 0.3, "min_size": 0, "self_balancing": True},
        pathological={"classes_per_client": 3, "choice": "random", "keep_sizes": quantity != "even"},
        distribution={"values": [[0.1] * 10] * 20},
        **({} if quantity == "even" else {quantity: {"min_size": 2}}),
    )
    assert digest(assign(np.arange(5_000) * 7 % 10, settings)) == expected


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("contiguous", "fa34d97b7183cb57"),
        ("iid", "382f888fa2ebeebe"),
        ("shards", "41cc105fa12e9d6d"),
        ("inner_dirichlet", "de836fb3193781ba"),
        ("pathological", "ba607153bcb63d0d"),
        ("distribution", "57f04257247a59c4"),
    ],
)
def test_schemes_with_every_quantity(scheme: str, expected: str) -> None:
    """The digest of all assignments together; those of before quantity was a key of its own."""
    labels = np.arange(5_000) * 7 % 10
    assignments = []
    for quantity, seed, leave_out in product(QUANTITIES.names, (1, 2024), (0, 100)):
        by_quantity = {
            "even": {},
            "sizes": {"values": [200] * 10 + [300] * 10 if not leave_out else [190] * 10 + [300] * 10},
        }
        settings = partition(
            scheme=scheme,
            quantity=quantity,
            clients=20,
            leave_out=leave_out,
            seed=seed,
            pathological={"classes_per_client": 8, "choice": "random", "keep_sizes": quantity != "even"},
            distribution={"values": [[0.1] * 10] * 20},
            **{quantity: by_quantity.get(quantity, {"min_size": 8})},
        )
        assignments.append(assign(labels, settings))
    assert digest(np.concatenate(assignments)) == expected


def test_skew_and_client_tests() -> None:
    settings = params.load(params.Partition, RECIPE / "params.yaml").model_copy(
        update={
            "clients": 20,
            "features": Features(values="drawn", rotation=45, contrast=0.5, background=0.5, noise=0.3),
            "concept": Concept(share=0.5),
            "client_test": "same_distribution",
        }
    )
    skew = Skew.sample(settings, 10)
    assert hashlib.sha256(skew.table(20).to_csv(index=False).encode()).hexdigest()[:16] == "39146767017a1439"
    transform = skew.transform(Purpose.TRAIN_NOISE)
    assert transform is not None
    assert (
        digest(transform(3, (np.arange(980) % 256).astype(np.uint8).reshape(5, 14, 14, 1), np.arange(5))[0])
        == "ee16d66d5aac38e8"
    )
    labels = np.arange(5_000) * 7 % 10
    tested = split(np.arange(5_000) % 20, labels, labels[:1_000], settings)[1]
    assert digest(np.concatenate(tested)) == "1d48c0cd73a4dbb5"


def test_cohort_and_initial_weights() -> None:
    settings = params.load(params.Train, Path(RECIPE / "params.yaml")).model_copy(update={"clients_per_round": 10})
    assert digest(cohort(settings, np.full(600, 100), 5).clients.astype(np.int64)) == "d76c6533f0dc151f"
    model = network(ModelSpec("baseline_cnn", (28, 28, 1), 10))
    weights = model.first_weights(generator(2024, Purpose.INITIAL_WEIGHTS))
    assert digest(np.concatenate([w.ravel() for w in weights])) == "7c5094c497c4bc9f"
