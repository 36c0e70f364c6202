"""Every algorithm against its paper in plain NumPy (papers.py), with all that params.yaml can ask of local training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpipe.config.train import Train
from fedpipe.contracts.algorithm import asynchrony_of
from fedpipe.learning.work_request import WorkRequest
from fedpipe.runtime.asynchronous import Schedule
from fedpipe.runtime.cohort import Cohort
from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms import papers, reference
from tests.fedpipe.algorithms.reference import SIZES, TRAINING
from tests.fedpipe.training import (
    FEDERATED,
    Ended,
    cohort_of,
    dense_with_batch_norm,
    first_weights,
    run,
    train_settings,
)

Make = Callable[[list[int]], Path]
COHORTS = [[0, 1, 2, 3, 4], [1, 2, 4], [0, 2, 3]]  # client 4 takes part twice, client 1 with a pause
UNIFORM = {"client_weighting": "uniform"}
TWO_LAYERS = {"model": "mcmahan_2nn", "mcmahan_2nn": {}}
DEVICES = {"availability": {"devices": {"seconds_per_sample": 1.0, "spread": 0.5}}}
HALVED = {"schedule": {"name": "step", "factor": 0.5}}

# The params with which each algorithm is compared. Another algorithm needs a reference in papers.py and a line here.
PARAMS: dict[str, list[dict[str, Any]]] = {
    "fed_avg": [{}, UNIFORM],
    "fed_prox": [{"fed_prox": {"mu": 0.01}}, {"fed_prox": {"mu": 2.0}}],
    "fed_sgd": [{"local_epochs": 1, "server_optimizer": {"learning_rate": 0.1}, **more} for more in ({}, UNIFORM)],
    "fed_nova": [{"client_optimizer": {"momentum": rho}, **more} for rho in (0.0, 0.5, 0.9) for more in ({}, UNIFORM)],
    "scaffold": [
        {"scaffold": {"option": 2}},
        {"scaffold": {"option": 1}},
        {"scaffold": {"option": 1}, **UNIFORM},
        {"scaffold": {"option": 2}, **UNIFORM},
        {"scaffold": {"option": 2}, "client_optimizer": HALVED},
        {"scaffold": {"option": 1}, "client_optimizer": {"momentum": 0.5}},
        {"scaffold": {"option": 2}, "client_optimizer": {"momentum": 0.9}},
    ],
    "fed_dyn": [{"fed_dyn": {"alpha": 0.1}, **more} for more in ({}, UNIFORM)],
    "mime": [{"mime": {"beta": 0.5}, **more} for more in ({}, UNIFORM)],
    "mime_lite": [{"mime_lite": {"beta": 0.5}, **more} for more in ({}, UNIFORM)],
    "q_fed_avg": [UNIFORM | {"q_fed_avg": {"q": q}} for q in (0.5, 2.0)],
    "afl": [UNIFORM | {"afl": {"rate": rate}} for rate in (0.02, 0.1)],  # the large one sends weights of clients to 0
    "ifca": [
        {"ifca": {"clusters": clusters}, "server_optimizer": {"learning_rate": 0.5}, **more}
        for clusters in (3, 1)
        for more in ({}, UNIFORM)
    ],
    "ditto": [{"ditto": {"lam": lam}} for lam in (1.5, 0.0)],
    "fed_per": [TWO_LAYERS | {"fed_per": {"layers": layers}} for layers in (1, 2)],
    "fed_bn": [
        {
            "model": "keras_cnn",
            "keras_cnn": {"batch_norm": True, "dropout": 0.0},
            "client_optimizer": {"learning_rate": 0.005},
        }
    ],
    "fed_rep": [TWO_LAYERS | {"fed_rep": {"layers": layers, "head_epochs": 3}} for layers in (1, 2)],
    "fed_buff": [
        DEVICES | {"fed_buff": {"buffer_size": 2, "exponent": 0.5}},
        DEVICES | {"fed_buff": {"buffer_size": 2, "exponent": 1.5, "concurrency": 3}, **UNIFORM},
    ],
    "fed_async": [
        DEVICES
        | {
            "fed_async": {
                "concurrency": 4,
                "alpha": 0.4,
                "mu": 0.1,
                "staleness": staleness,
                **own,
            }
        }
        for staleness, own in (
            ("polynomial", {"exponent": 0.7}),
            ("constant", {}),
            ("hinge", {"slope": 3.0, "late": 1}),
        )
    ],
}
# What is asked of local training beside; stragglers do a part of their steps.
SETTINGS: dict[str, dict[str, Any]] = {
    "weight decay": {"client_optimizer": {"weight_decay": 0.1}},
    "clip norm": {"client_optimizer": {"clip_norm": 0.5}},
    "drop": {"last_batch": "drop"},
    "stragglers": {"availability": {"stragglers": {"share": 0.5, "least_work": 0.1}}},
}
# Pairs that are refused, with the key that the refusal names.
REFUSED = {
    ("fed_sgd", "weight decay"): "train.client_optimizer.weight_decay",
    ("fed_sgd", "clip norm"): "train.client_optimizer.clip_norm",
    ("fed_sgd", "drop"): "train.last_batch",
    ("fed_sgd", "stragglers"): "train.availability.stragglers.share",
    ("fed_rep", "weight decay"): "train.client_optimizer.weight_decay",
    ("scaffold", "clip norm"): "train.client_optimizer.clip_norm",
}


def settings_of(algorithm: str, *changes: dict[str, Any]) -> Train:
    content: dict[str, Any] = TRAINING | {"algorithm": algorithm}
    for change in changes:
        both = {key for key in change if isinstance(change[key], dict) and isinstance(content.get(key), dict)}
        content = content | change | {key: content[key] | change[key] for key in both}
    return train_settings(**content)


def cohorts_of(settings: Train, sizes: list[int]) -> list[Cohort]:
    """Those of `COHORTS`, with the work of stragglers; or the events of an asynchronous training."""
    if (rules := asynchrony_of(settings)) is not None:
        schedule = Schedule(settings, rules, np.array(sizes))
        return [schedule.cohort(number) for number in range(1, 9)]
    cohorts = [cohort_of(clients) for clients in COHORTS]
    if not settings.availability.stragglers.share:
        return cohorts
    work = [1, 500, 730, 1000, 300]
    return [Cohort(WorkRequest.of(each.clients, work=work[: len(each.clients)])) for each in cohorts]


def compare(worker: Worker, shards: Path, settings: Train, sizes: list[int] = SIZES) -> Ended:
    cohorts = cohorts_of(settings, sizes)
    # Without poolings, where a rounding may choose another pixel.
    model = dense_with_batch_norm(settings) if settings.algorithm == "fed_bn" else None
    first = first_weights(settings) if model is None else model.first_weights(np.random.default_rng(5))
    ended = run(worker, settings, shards, cohorts, first=first, model=model)
    fed = papers.Federation.of(settings, shards, first, cohorts)
    expected: papers.Expected = getattr(papers, settings.algorithm)(fed)
    reference.assert_close(ended.weights, expected.weights, expected.of_weights)
    for leaf in expected.state:
        near = [
            a for a in ended.state if a.shape == leaf.shape and np.allclose(a, leaf, rtol=0, atol=expected.tolerance)
        ]
        assert near, "no leaf of the server's state has these values"
    for name, kept in ended.kept.items() if expected.kept else ():
        flat = np.concatenate([part.ravel() for part in expected.kept[int(name.split(".")[0])]])
        np.testing.assert_allclose(kept, flat, rtol=0, atol=expected.tolerance)
    return ended


def test_every_algorithm_is_compared() -> None:
    assert set(PARAMS) == set(FEDERATED)


# Every day, the first params of each algorithm; Keras, with which FedBN is compared, takes many seconds.
DAILY = [
    pytest.param(name, number, marks=[pytest.mark.slow] if number or name == "fed_bn" else [])
    for name, each in PARAMS.items()
    for number in range(len(each))
]


@pytest.mark.parametrize(("algorithm", "number"), DAILY)
def test_trains_as_its_paper_says(worker: Worker, make_shards: Make, algorithm: str, number: int) -> None:
    sizes = [1, 2, 0, 3, 1] if algorithm == "ifca" else SIZES  # so small that clients choose different models
    compare(worker, make_shards(sizes), settings_of(algorithm, PARAMS[algorithm][number]), sizes)


@pytest.mark.parametrize(
    "algorithm", [pytest.param(name, marks=[pytest.mark.slow] if name == "fed_bn" else []) for name in PARAMS]
)
def test_weight_decay_clipping_last_batches_and_stragglers(worker: Worker, make_shards: Make, algorithm: str) -> None:
    """All at once, as far as they are not refused."""
    changes = []
    for name, setting in SETTINGS.items():
        if (algorithm, name) in REFUSED:
            with pytest.raises(ValueError, match=REFUSED[algorithm, name]):
                settings_of(algorithm, PARAMS[algorithm][0], setting)
        else:
            changes.append(setting)
    if changes:
        compare(worker, make_shards(SIZES), settings_of(algorithm, PARAMS[algorithm][0], *changes))


@pytest.mark.slow  # the test above has them together
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("algorithm", PARAMS)
def test_each_of_these_alone(worker: Worker, make_shards: Make, algorithm: str, setting: str) -> None:
    if (algorithm, setting) not in REFUSED:
        compare(worker, make_shards(SIZES), settings_of(algorithm, PARAMS[algorithm][0], SETTINGS[setting]))


def test_scaffolds_first_option_takes_clipped_steps(worker: Worker, make_shards: Make) -> None:
    compare(worker, make_shards(SIZES), settings_of("scaffold", {"scaffold": {"option": 1}}, SETTINGS["clip norm"]))
