"""Where a round's time goes."""

import time
from pathlib import Path

import pandas as pd
import pytest

from fedpipe.learning.client_work import READ, WORK, Summed
from fedpipe.runtime.hooks import PhaseTable
from fedpipe.runtime.phases import PHASES, Phases
from fedpipe.runtime.records import RoundRecord
from fedpipe.runtime.rounds import CompletedRound
from fedpipe.runtime.worker import Worker
from tests.fedpipe.training import train, train_settings


def test_clients_time_is_divided_as_their_own() -> None:
    phases = Phases()
    with phases.timed("clients"):
        time.sleep(0.02)
    measured = {READ: Summed(1.0), WORK: Summed(3.0), "loss": Summed(2.0)}
    phases.split_clients(measured)
    assert measured == {"loss": Summed(2.0)}  # no time gets into a round's record
    first, second = phases.end_round(), phases.end_round()
    assert tuple(first) == PHASES
    assert first["train"] == pytest.approx(3 * first["read"]) and first["read"] + first["train"] >= 0.02
    assert set(second.values()) == {0.0}


def test_a_step_without_a_phase_counts_nowhere() -> None:
    phases = Phases()
    with phases.timed(None):
        pass
    assert set(phases.end_round().values()) == {0.0}


def test_the_table_has_one_row_per_round_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "phases.csv"

    def completed(number: int) -> CompletedRound:
        record = RoundRecord(number, 2.0, 0.5, 10, 0, 100, 1, 1)
        return CompletedRound(record, 1.5, dict.fromkeys(PHASES, 0.25))

    PhaseTable(path, resumed=True).on_round_end(completed(1))
    PhaseTable(path, resumed=True).on_round_end(completed(2))
    table = pd.read_csv(path)
    assert table["round"].tolist() == [1, 2] and table["clients"].tolist() == [10, 10]
    PhaseTable(path, resumed=False).on_round_end(completed(1))
    assert pd.read_csv(path)["round"].tolist() == [1]


def test_a_training_tells_where_its_time_went(tmp_path: Path, worker: Worker, make_shards) -> None:
    settings = train_settings(rounds=2, model="logistic_regression", logistic_regression={}, evaluate_every=2)
    shards = make_shards([40, 40])
    measured, evaluated = [], []

    def evaluate(weights: object) -> dict[str, float]:
        evaluated.append(len(measured))
        time.sleep(0.05)
        return {"test_loss": 1.0, "test_accuracy": 0.5}

    def on_round(completed: CompletedRound) -> None:
        measured.append((completed.seconds, completed.phases))

    trained = train(settings, shards, worker, tmp_path, on_round=on_round, evaluate=evaluate)
    for seconds, phases in measured:
        assert phases["read"] > 0 and phases["train"] > 0 and 0 < sum(phases.values()) <= seconds + 1e-3
    assert measured[1][1]["evaluate"] >= 0.05
    assert evaluated == [1]
    assert not {READ, WORK} & set(trained.records[0].row())
    table = pd.read_csv(tmp_path / "phases.csv")
    assert table["clients"].tolist() == [2, 2] and list(table.columns[3:]) == list(PHASES)
