"""Where a round's time goes."""

import time
from pathlib import Path

import pandas as pd
import pytest

from fedpipe.learning.client_work import READ, WORK
from fedpipe.runtime.phases import PHASES, PhaseLog, Phases
from fedpipe.runtime.worker import Worker
from tests.fedpipe.training import train_settings


def test_clients_time_is_divided_as_their_own() -> None:
    phases = Phases()
    with phases.timed("clients"):
        time.sleep(0.02)
    measured = {READ: 1.0, WORK: 3.0, "loss": 2.0}
    phases.split_clients(measured)
    assert measured == {"loss": 2.0}  # no time gets into a round's record
    first, second = phases.end_round(), phases.end_round()
    assert tuple(first) == PHASES
    assert first["train"] == pytest.approx(3 * first["read"]) and first["read"] + first["train"] >= 0.02
    assert set(second.values()) == {0.0}


def test_the_log_has_one_row_per_round_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "phases.csv"
    took = dict.fromkeys(PHASES, 0.25)
    PhaseLog(path, resumed=True).add(1, 10, 1.5, took)
    PhaseLog(path, resumed=True).add(2, 10, 1.5, took)
    assert pd.read_csv(path)["round"].tolist() == [1, 2]
    PhaseLog(path, resumed=False).add(1, 10, 1.5, took)
    assert pd.read_csv(path)["round"].tolist() == [1]


def test_a_training_tells_where_its_time_went(tmp_path: Path, worker: Worker, make_shards) -> None:
    from fedpipe.datasets.shards import Manifest
    from fedpipe.runtime.training import train
    from tests.fedpipe.training import first_weights, model_of

    settings = train_settings(rounds=2, model="logistic_regression", logistic_regression={}, evaluate_every=2)
    shards = make_shards([40, 40])
    told = []

    def evaluate(weights: object) -> dict[str, float]:
        time.sleep(0.05)
        return {"test_loss": 1.0, "test_accuracy": 0.5}

    trained = train(
        model_of(settings),
        settings,
        Manifest.read(shards),
        first_weights(settings),
        shards,
        worker,
        lambda record, seconds, phases: told.append((seconds, phases)),
        evaluate=evaluate,
        folder=tmp_path,
    )
    for seconds, phases in told:
        assert 0 < phases["read"] < phases["train"] and 0.5 * seconds < sum(phases.values()) <= seconds + 1e-3
    assert told[0][1]["evaluate"] == 0.0 and told[1][1]["evaluate"] >= 0.05
    assert not {READ, WORK} & set(trained.records[0].row())
    table = pd.read_csv(tmp_path / "phases.csv")
    assert table["clients"].tolist() == [2, 2] and list(table.columns[3:]) == list(PHASES)
