"""Whole trainings with differential privacy: empty cohorts, the ledger, a budget, a resume, and secret noise."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from fedpipe.aggregators import dp_gaussian
from fedpipe.config.train import Train
from fedpipe.errors import PipelineError
from fedpipe.learning.task import Task
from fedpipe.privacy import ledger as ledger_module
from fedpipe.privacy.ledger import Ledger
from fedpipe.privacy.sampling import expected_updates
from fedpipe.runtime.checkpoints import Checkpoints
from fedpipe.runtime.cohort import cohort
from fedpipe.runtime.records import plot, write_table
from fedpipe.runtime.rounds import CompletedRound
from fedpipe.runtime.trained import Trained
from fedpipe.runtime.training import prepare
from fedpipe.runtime.worker import Worker
from tests.fedpipe.training import first_weights, model_of, same_bits, train, train_settings

Make = Callable[[list[int]], Path]
CLIENTS = 6
ADAPTIVE = {"clipping": "adaptive", "norm": 0.5, "noise_multiplier": 0.5, "count_stddev": 1.0}


def private(**changes: Any) -> Train:
    wanted = {
        "model": "logistic_regression",
        "aggregator": "dp_gaussian",
        "dp_gaussian": ADAPTIVE,
        "client_weighting": "uniform",
        "cohort": "poisson",
        "poisson": {"probability": 0.25},
        "rounds": 8,
        "evaluate_every": 0,
    }
    return train_settings(**wanted | changes)


def trained(worker: Worker, settings: Train, shards: Path, folder: Path, **more: Any) -> Trained:
    return train(settings, shards, worker, folder, **more)


def ledger_of(settings: Train) -> Ledger:
    """The ledger of cohorts that all are empty."""
    ledger = Ledger.of(settings, CLIENTS, lambda number: np.array([]))
    assert ledger is not None
    return ledger


@pytest.fixture(autouse=True)
def loose(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tight epsilon at the end of a training: it takes two seconds, and tests/fedpipe/privacy is about it."""
    monkeypatch.setattr(ledger_module, "_TIGHT_UP_TO", 0.0)


@pytest.fixture(scope="module")
def shards(make_shards: Make) -> Path:
    return make_shards([4] * CLIENTS)


@pytest.mark.slow
def test_empty_cohorts(worker: Worker, shards: Path, tmp_path: Path) -> None:
    records = trained(worker, private(), shards, tmp_path).records
    empty = [record for record in records if not record.clients]
    assert 0 < len(empty) < 8
    for record in empty:
        assert (record.loss, record.accuracy, record.examples, record.bytes_up, record.non_finite) == (
            None,
            None,
            0,
            0,
            0,
        )
        assert "no training example" in record.line(8, 0.1)
    write_table(records, tmp_path / "rounds.csv")
    table = pd.read_csv(tmp_path / "rounds.csv")
    assert table["train_loss"].isna().sum() == table["train_accuracy"].isna().sum() == len(empty)
    assert table["epsilon"].is_monotonic_increasing and (table["epsilon"] > 0).all()
    plot(records, "a training", tmp_path / "training.png")
    assert (tmp_path / "training.png").stat().st_size > 10_000
    assert "no training example" in (tmp_path / "rounds.log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{}, {"server_optimizer": {"momentum": 0.9}}, {"algorithm": "fed_dyn"}],
    ids=["plain", "server momentum", "fed_dyn"],
)
def test_empty_cohorts_without_noise_leave_the_weights(
    worker: Worker, shards: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    settings = private(aggregator="mean", evaluate_every=1, **changes)
    weights = [first_weights(settings)]

    def evaluate(model: list[np.ndarray]) -> dict[str, float]:
        weights.append(model)
        return {"test_loss": 1.0, "test_accuracy": 0.5}

    result = trained(worker, settings, shards, tmp_path, evaluate=evaluate)
    assert result.privacy == {} and "epsilon" not in result.records[0].row()
    for before, after, record in zip(weights[:-1], weights[1:], result.records, strict=True):
        assert same_bits(before, after) == (record.clients == 0)


def test_the_ledger_of_a_training(
    worker: Worker, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "_TIGHT_UP_TO", 100.0)
    settings = private(rounds=3)
    result, ledger = trained(worker, settings, shards, tmp_path), ledger_of(settings)
    assert [record.others["epsilon"] for record in result.records] == [ledger.epsilon(number) for number in (1, 2, 3)]
    assert result.privacy == ledger.summary(3) and 0 < result.privacy["epsilon_pld"] < result.privacy["epsilon_rdp"]


def test_a_budget(worker: Worker, shards: Path, tmp_path: Path) -> None:
    """The round that would exceed it is not run, and the one before it is evaluated as a last one."""
    ledger = ledger_of(private())
    budget = (ledger.epsilon(3) + ledger.epsilon(4)) / 2
    settings = private(stop_at={"epsilon": budget}, evaluate_every=2)
    measured = {"test_loss": 1.0, "test_accuracy": 0.5}
    result = trained(worker, settings, shards, tmp_path, evaluate=lambda weights: measured)
    assert len(result.records) == 3 and result.privacy["epsilon_rdp"] <= budget
    assert [record.test_accuracy for record in result.records] == [None, 0.5, 0.5]


@pytest.mark.parametrize("aggregator", ["dp_gaussian", pytest.param("dp_ftrl", marks=pytest.mark.slow)])
def test_a_resume_keeps_bits_and_ledger(worker: Worker, shards: Path, tmp_path: Path, aggregator: str) -> None:
    settings = private(aggregator=aggregator, rounds=6, checkpoint={"seconds": 0})
    whole = trained(worker, settings, shards, tmp_path / "whole")

    def stop(completed: CompletedRound) -> None:
        if completed.record.round == 3:
            raise KeyboardInterrupt

    folder = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt), Checkpoints(folder, {"params": {}}, settings) as checkpoints:
        trained(worker, settings, shards, folder, on_round=stop, checkpoints=checkpoints)
    with Checkpoints(folder, {"params": {}}, settings) as checkpoints:
        assert checkpoints.resumed is not None and checkpoints.resumed.round == 3
        resumed = trained(worker, settings, shards, folder, checkpoints=checkpoints)
    assert same_bits(whole.weights, resumed.weights)
    assert (whole.records, whole.privacy) == (resumed.records, resumed.privacy)


@pytest.mark.parametrize("aggregator", ["dp_gaussian", "dp_ftrl", "local_dp"])
def test_a_round_that_lost_everybody_adds_noise_as_any_other(
    worker: Worker, shards: Path, tmp_path: Path, aggregator: str
) -> None:
    """Or weights that stay as they are would tell that nobody was there. A cohort of local noise has none then."""
    lost = {"dropout_before": 0.5, "dropout_during": 0.5}
    settings = private(aggregator=aggregator, availability=lost, poisson={"probability": 0.5}, evaluate_every=1)
    weights = [first_weights(settings)]

    def evaluate(model: list[np.ndarray]) -> dict[str, float]:
        weights.append(model)
        return {"test_loss": 1.0, "test_accuracy": 0.5}

    records = trained(worker, settings, shards, tmp_path, evaluate=evaluate).records
    empty = [record.clients == 0 for record in records]
    assert any(empty) and not all(empty)
    for before, after, nobody in zip(weights[:-1], weights[1:], empty, strict=True):
        assert same_bits(before, after) == (nobody and aggregator == "local_dp")


LOST = {"dropout_before": 0.2, "dropout_during": 0.5}


@pytest.mark.parametrize(
    "changes",
    [
        {"poisson": {"probability": 0.5}, "availability": LOST},
        {"cohort": "uniform", "clients_per_round": 20, "availability": LOST},
        {"cohort": "uniform", "clients_per_round": 38, "availability": LOST},  # more than are there
        {"cohort": "uniform", "availability": LOST | {"cyclic": {"groups": 4, "period": 4}}},
        {"cohort": "fixed", "fixed": {"ids": [1, 2, 3, 4, 5, 6, 7, 8]}, "availability": LOST},
    ],
    ids=["poisson", "a number", "a large number", "all, in turn", "a list"],
)
def test_sums_are_divided_by_the_updates_that_a_round_brings(changes: dict[str, Any]) -> None:
    settings = private(**changes)
    updates = [len(cohort(settings, np.ones(40), number).clients) for number in range(1, 2001)]
    assert expected_updates(settings, 40) == pytest.approx(np.mean(updates), rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("lost", [{}, LOST], ids=["nobody is lost", "many are lost"])
def test_an_adaptive_norm_comes_to_the_quantile_whoever_drops_out(lost: dict[str, float]) -> None:
    own = {"clipping": "adaptive", "norm": 0.1, "noise_multiplier": 1e-9, "quantile": 0.8, "count_stddev": 1e-9}
    settings = private(dp_gaussian=own, poisson={"probability": 0.5}, availability=lost)
    task, lengths = Task(model_of(settings), settings, 200), np.linspace(0.01, 2.0, 200)
    norm, last = tf.constant(0.1), []
    for number in range(1, 301):
        answered = lengths[cohort(settings, np.ones(200), number).clients]
        total = [tf.zeros([1]), tf.constant(np.sum((answered <= norm.numpy()) - 0.5), tf.float32)]
        _, norm = dp_gaussian.finish(task, norm, total, tf.constant(0.0), number)
        last.append(float(norm))
    assert np.mean(last[-200:]) == pytest.approx(np.quantile(lengths, 0.8), rel=0.03)


def test_who_is_there_depends_on_no_data() -> None:
    """The samples of one client change nothing for anybody, so leaving out its updates changes nothing else."""
    lost = {"dropout_before": 0.3, "dropout_during": 0.3, "cyclic": {"groups": 2, "period": 2}}
    for changes in ({}, {"aggregator": "dp_ftrl", "cohort": "uniform", "clients_per_round": 8}):
        settings = private(availability=lost, poisson={"probability": 0.5}, **changes)
        first, other = np.full(40, 5), np.full(40, 5)
        other[7] = 0
        cohorts = [
            [cohort(settings, sizes, number).clients.tolist() for number in range(1, 9)] for sizes in (first, other)
        ]
        assert cohorts[0] == cohorts[1] and any(cohorts[0])
    rounds = 4000
    settings = private(availability={"dropout_before": 0.3, "dropout_during": 0.2}, poisson={"probability": 0.5})
    present = sum(np.isin([3, 5], cohort(settings, first, number).clients) for number in range(1, rounds + 1))
    assert present / rounds == pytest.approx([0.28, 0.28], abs=0.025)  # three standard deviations and a half


def test_secret_noise(worker: Worker, shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Two runs have other noise and other cohorts, and none is saved to go on from."""
    runs = []
    for noise in ("seeded", "seeded", "secret", "secret"):
        settings = private(privacy={"noise": noise}, checkpoint={"seconds": 0})
        folder = tmp_path / str(len(runs))
        with pytest.raises(ZeroDivisionError), Checkpoints(folder, {"params": {}}, settings) as checkpoints:
            runs.append(trained(worker, settings, shards, folder, checkpoints=checkpoints))
            raise ZeroDivisionError  # or a checkpoint would be removed
        assert bool(list(folder.glob("checkpoints/*"))) == (noise == "seeded")
    assert "no other run has these bits" in capfd.readouterr().err
    bits = [b"".join(w.tobytes() for w in run.weights) for run in runs]
    assert bits[0] == bits[1] and len(set(bits)) == 3
    assert runs[2].privacy == runs[0].privacy


def test_secret_cohorts_are_not_those_of_the_seed(shards: Path, tmp_path: Path) -> None:
    drawn = []
    for noise in ("seeded", "seeded", "secret", "secret"):
        training = prepare(private(privacy={"noise": noise}), shards, tmp_path)
        drawn.append([training.draw(number, None).clients.tolist() for number in range(1, 30)])
    assert drawn[0] == drawn[1] and drawn[2] != drawn[0] != drawn[3] != drawn[2]


def test_secret_noise_does_not_travel(worker: Worker, shards: Path, tmp_path: Path) -> None:
    settings = private(privacy={"noise": "secret"})
    with pytest.raises(PipelineError, match=r"'train.privacy.noise' is secret, and a secret does not travel"):
        trained(worker, settings, shards, tmp_path, elsewhere=object())
