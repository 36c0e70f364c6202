"""Hooks take part in every round of a training, in their order, and a stop between two of them loses nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpipe.runtime.checkpoint import Best
from fedpipe.runtime.checkpoints import Checkpoints
from fedpipe.runtime.hooks import KeepBest, StopAtTarget
from fedpipe.runtime.records import RoundRecord
from fedpipe.runtime.rounds import CompletedRound, Hook, Round
from fedpipe.runtime.trained import Trained
from fedpipe.runtime.training import prepare
from fedpipe.runtime.worker import Worker
from tests.fedpipe.training import same_bits, train_settings

Make = Callable[[list[int]], Path]
SMALL = {"model": "logistic_regression", "rounds": 4, "evaluate_every": 1, "clients_per_round": 2, "selection": "test"}
SCORES = [0.2, 0.5, 0.5, 0.4]  # of the rounds, by what `Scores` says


class Scores:
    """An evaluation that gives each round a score."""

    def __init__(self, done: int = 0) -> None:
        self._scores = iter(SCORES[done:])

    def __call__(self, weights: list[np.ndarray]) -> dict[str, float]:
        return {"test_loss": 1.0, "test_accuracy": next(self._scores)}


class Notes(Hook):
    """Notes what it is called for."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.columns: list[set[str]] = []

    def on_clients(self, number: int, cohort: int, done: int) -> None:
        self.calls.append((f"{done} of {cohort}", number))

    def measure(self, current: Round) -> None:
        self.calls.append(("measure", current.number))
        self.columns.append(set(current.columns))
        current.columns["own"] = 0.5

    def on_round_end(self, completed: CompletedRound) -> None:
        self.calls.append(("end", completed.record.round))

    def __enter__(self) -> "Notes":
        self.calls.append(("enter", 0))
        return self

    def __exit__(self, *_: object) -> None:
        self.calls.append(("exit", 0))


def run(worker: Worker, shards: Path, folder: Path, *hooks: Hook, done: int = 0, **changes: Any) -> Trained:
    """A training whose rounds have `SCORES`; it is saved after every round, and resumes after ``done`` rounds."""
    settings = train_settings(**SMALL | {"checkpoint": {"seconds": 0.0}} | changes)
    with Checkpoints(folder, {"params": {}}, settings) as checkpoints:
        assert (checkpoints.found.round if checkpoints.found else 0) == done
        return prepare(settings, shards, folder, checkpoints=checkpoints).run(
            worker, evaluate=Scores(done), hooks=hooks
        )


def test_a_hook_is_called_in_every_round_and_adds_columns(worker: Worker, make_shards: Make, tmp_path: Path) -> None:
    notes = Notes()
    trained = run(worker, make_shards([8] * 4), tmp_path, notes, rounds=2)
    rounds = [(call, number) for number in (1, 2) for call in ("2 of 2", "measure", "end")]
    assert notes.calls == [("enter", 0), *rounds, ("exit", 0)]
    assert notes.columns == [{"test_loss", "test_accuracy"}] * 2  # what is measured before it
    assert [record.others["own"] for record in trained.records] == [0.5, 0.5]


def test_the_first_of_the_best_rounds_is_kept() -> None:
    best, hook = None, KeepBest("test")
    for number, score in enumerate([0.2, 0.5, 0.5, 0.4], 1):
        current = Round(number, lambda number=number: [np.array([number])], best, {"test_accuracy": score})
        hook.measure(current)
        best = current.best
    assert best == Best(0.5, 2, [np.array([2])])
    other_samples = Round(5, lambda: [], best, {"validation_accuracy": 0.9})
    hook.measure(other_samples)
    assert other_samples.best is best


def test_the_target_is_a_score_at_least_that_high() -> None:
    record = RoundRecord(1, 2.0, 0.5, 10, 0, 100, 1, 1, test_accuracy=0.5)
    assert StopAtTarget(0.5, "test").stops(record) and not StopAtTarget(0.51, "test").stops(record)
    assert not StopAtTarget(0.0, "test").stops(RoundRecord(1, 2.0, 0.5, 10, 0, 100, 1, 1))


class Interrupts(Hook):
    """Stops the training, as Ctrl-C would, when round 3 is measured or has ended."""

    def __init__(self, moment: str) -> None:
        self._moment = moment

    def measure(self, current: Round) -> None:
        if self._moment == "measure" and current.number == 3:
            raise KeyboardInterrupt

    def on_round_end(self, completed: CompletedRound) -> None:
        if self._moment == "end" and completed.record.round == 3:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("moment", "done"), [("measure", 2), ("end", 3)])
def test_a_stop_at_any_moment_of_a_round_resumes_to_the_same_bits(
    worker: Worker, make_shards: Make, tmp_path: Path, moment: str, done: int
) -> None:
    """The engine has trained the round, whether its record counts or not; the clients keep files of it."""
    changes = {"algorithm": "scaffold", "keep_best": True, "server_optimizer": {"momentum": 0.5}}
    shards = make_shards([8] * 4)
    whole = run(worker, shards, tmp_path / "whole", **changes)
    with pytest.raises(KeyboardInterrupt):
        run(worker, shards, tmp_path / "stopped", Interrupts(moment), **changes)
    resumed = run(worker, shards, tmp_path / "stopped", done=done, **changes)
    assert same_bits(whole.weights, resumed.weights) and same_bits(whole.best, resumed.best)
    assert whole.records == resumed.records and whole.best_round == resumed.best_round == 2


def test_a_training_that_was_stopped_after_its_target_runs_no_further_round(
    worker: Worker, make_shards: Make, tmp_path: Path
) -> None:
    shards, changes = make_shards([8] * 4), {"stop_at": {"accuracy": 0.5}}
    whole = run(worker, shards, tmp_path / "whole", **changes)
    assert len(whole.records) == whole.reached == 2

    class AtTarget(Hook):
        def on_round_end(self, completed: CompletedRound) -> None:
            if completed.record.round == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(worker, shards, tmp_path / "stopped", AtTarget(), **changes)
    notes = Notes()
    resumed = run(worker, shards, tmp_path / "stopped", notes, done=2, **changes)
    assert notes.calls == [("enter", 0), ("exit", 0)]
    assert (resumed.records, resumed.reached) == (whole.records, 2) and same_bits(whole.weights, resumed.weights)
