"""Who is drawn: as often as the formulas say, and the same in every process."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpipe.datasets.shards import Shards
from fedpipe.errors import PipelineError
from fedpipe.learning.attackers import attackers
from fedpipe.learning.work_request import WorkRequest
from fedpipe.networks.network import scale
from fedpipe.runtime.cohort import cohort, require_clients
from fedpipe.runtime.worker import Worker
from tests import ROOT
from tests.fedpipe.training import first_weights, model_of, train_settings

SIZES = np.array([10, 20, 30, 40, 0])


def chosen(settings: Any, number: int, sizes: np.ndarray = SIZES, losses: Any = None) -> list[int]:
    return cohort(settings, sizes, number, losses).clients.tolist()


def test_by_size_draws_as_often_as_a_client_has_samples() -> None:
    settings = train_settings(cohort="by_size", clients_per_round=1)
    counts = np.bincount(np.concatenate([chosen(settings, t) for t in range(1, 4001)]), minlength=5)
    assert counts[4] == 0
    np.testing.assert_allclose(counts[:4] / 4000, SIZES[:4] / 100, atol=0.025)  # three standard deviations


def test_by_size_draws_each_client_once() -> None:
    settings = train_settings(cohort="by_size", clients_per_round=2)
    draws = [chosen(settings, t) for t in range(1, 2001)]
    assert all(len(set(each)) == 2 and each == sorted(each) for each in draws)
    # P(client 3 is in) = p3 + sum over the others j of pj x p3 / (1 - pj)
    p = SIZES[:4] / 100
    expected = p[3] + sum(p[j] * p[3] / (1 - p[j]) for j in range(3))
    assert np.mean([3 in each for each in draws]) == pytest.approx(expected, abs=0.035)
    assert chosen(train_settings(cohort="by_size", clients_per_round=5), 1) == [0, 1, 2, 3]


def test_fixed_asks_the_given_clients() -> None:
    settings = train_settings(cohort="fixed", fixed={"ids": [3, 1]})
    assert [chosen(settings, t) for t in (1, 2)] == [[1, 3], [1, 3]]
    require_clients(settings, 4)
    with pytest.raises(PipelineError, match=r"'train.fixed.ids' has 3, but there are 3 clients; give ids from 0 to 2"):
        require_clients(settings, 3)


def test_power_of_choice_takes_the_highest_losses_of_the_candidates() -> None:
    settings = train_settings(cohort="power_of_choice", clients_per_round=2, power_of_choice={"candidates": 3})
    candidates = train_settings(cohort="by_size", clients_per_round=3)
    losses = np.array([0.5, 3.0, 1.0, 1.0, 9.0], np.float32)
    for t in range(1, 30):
        requested = cohort(settings, SIZES, t, lambda ids, number: losses[ids])
        among = chosen(candidates, t)
        assert requested.clients.tolist() == sorted(sorted(among, key=lambda k: (-losses[k], k))[:2])
        assert requested.counts == {"measured": 3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cohort": "by_size"}, "by_size draws some of the clients: set 'train.clients_per_round' to a number"),
        ({"cohort": "fixed"}, "'ids' is empty"),
        ({"cohort": "fixed", "fixed": {"ids": [1, 1]}}, "'ids' has 1 more than once"),
        ({"cohort": "fixed", "fixed": {"ids": [1]}, "clients_per_round": 1}, "set 'train.clients_per_round' to all"),
        ({"cohort": "power_of_choice"}, r"set 'train.clients_per_round' to a number up to 20"),
        ({"cohort": "power_of_choice", "clients_per_round": 21}, r"set 'train.clients_per_round' to a number up to 20"),
    ],
)
def test_what_makes_no_cohort_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_settings(**changes)


def test_losses_are_those_of_numpy_on_the_samples_that_clients_train_on(
    worker: Worker, make_shards: Callable[[list[int]], Path]
) -> None:
    from fedpipe.learning.wiring import Wiring
    from fedpipe.runtime.client_losses import client_losses
    from fedpipe.runtime.engine import Engine

    folder = make_shards([5, 0, 130, 7])
    choice = {"cohort": "power_of_choice", "clients_per_round": 1, "power_of_choice": {"candidates": 3}}
    settings = train_settings(model="logistic_regression", attack="label_flip", attackers=0.25, **choice)
    (evil,) = np.flatnonzero(attackers(settings, 4))
    assert evil in (0, 2), "another seed: the attacker is to be measured, among others"
    first, shards = first_weights(settings), Shards.open(folder)
    wiring = Wiring.of(settings, folder, network=model_of(settings), first=first)

    def expected(weights: list[np.ndarray], client: int) -> float:
        images, labels = shards.read(*shards.offsets[client : client + 2])
        labels = 9 - labels if client == evil else labels
        x = np.asarray(scale(images)).reshape(len(images), -1).astype(np.float64)
        logits = x @ weights[0] + weights[1]
        shifted = logits - logits.max(axis=1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return float(-log_p[np.arange(len(labels)), labels].mean())

    with Engine(wiring.process, worker, 4) as engine, client_losses(wiring, worker, engine, None) as losses:
        assert losses is not None
        before = losses(np.array([3, 0, 2]), 1)
        np.testing.assert_allclose(before, [expected(first, k) for k in (3, 0, 2)], rtol=1e-5)
        engine.run_round(WorkRequest.of([0, 2, 3]).pack())
        after = losses(np.array([0, 2]), 2)
        np.testing.assert_allclose(after, [expected(engine.weights(), k) for k in (0, 2)], rtol=1e-5)
        assert losses(np.array([1]), 2)[0] == 0


SCRIPT = """
import numpy as np
from fedpipe.runtime.cohort import cohort
from tests.fedpipe.training import train_settings
s = train_settings(cohort="by_size", clients_per_round=7, availability={
    "dropout_before": 0.3, "dropout_during": 0.2, "stragglers": {"share": 0.5}, "cyclic": {"groups": 2, "period": 2},
    "devices": {"seconds_per_sample": 0.1, "spread": 1.0}, "report_goal": 4})
for t in range(1, 9):
    c = cohort(s, np.arange(40), t)
    print(c.clients.tolist(), c.requests.work.tolist(), c.counts)
"""


def test_two_processes_draw_the_same() -> None:
    runs = [
        subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1] and len(set(runs[0].splitlines())) == 8
