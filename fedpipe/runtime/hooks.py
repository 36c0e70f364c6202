"""The hooks of a training, one responsibility each; `training.Training.run` says in which order they come."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedpipe.config.train import Train
from fedpipe.errors import PipelineError, WorkersLostError
from fedpipe.learning.task import Task
from fedpipe.networks.network import Network, Weights
from fedpipe.privacy.ledger import Ledger
from fedpipe.runtime.checkpoint import Best, Checkpoint
from fedpipe.runtime.checkpoints import Checkpoints
from fedpipe.runtime.engine import Engine
from fedpipe.runtime.kept_state import KeptState
from fedpipe.runtime.phases import PHASES
from fedpipe.runtime.progress import say
from fedpipe.runtime.records import RoundRecord
from fedpipe.runtime.rounds import CompletedRound, History, Hook, Round

# Figures of the global model on validation and test samples, by the name of their column (`GlobalSamples.measure`).
Evaluation = Callable[[Network, Weights, Train], dict[str, float]]


@dataclass
class EvaluateModel(Hook):
    """Measures the global model in every ``evaluate_every``-th round, and in the last of ``rounds``."""

    evaluate: Evaluation
    task: Task
    rounds: int
    phase = "evaluate"

    def measure(self, current: Round) -> None:
        settings = self.task.settings
        is_due = current.number % settings.evaluate_every == 0
        if is_due or current.number == self.rounds:
            measured = self.evaluate(self.task.network, current.weights, settings)
            current.columns |= measured
            current.only_last = frozenset() if is_due else frozenset(measured)


@dataclass
class KeepBest(Hook):
    """Keeps the weights of the round with the highest accuracy on ``samples``; of equal ones, the first."""

    samples: str  # `train.selection`

    def measure(self, current: Round) -> None:
        score = current.columns.get(f"{self.samples}_accuracy")
        if score is not None and (current.best is None or score > current.best.score):
            current.best = Best(score, current.number, current.weights)


@dataclass
class PrivacySpent(Hook):
    """Adds the column epsilon: the privacy spent so far."""

    ledger: Ledger

    def measure(self, current: Round) -> None:
        current.columns["epsilon"] = self.ledger.epsilon(current.number)


class PhaseTable(Hook):
    """``phases.csv``: one row per round with the seconds of each phase."""

    def __init__(self, path: Path, resumed: bool) -> None:
        """``resumed``: whether rows of an earlier process stay."""
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if not (resumed and path.exists()):
            path.write_text(",".join(("round", "clients", "seconds", *PHASES)) + "\n", encoding="utf-8")

    def on_round_end(self, completed: CompletedRound) -> None:
        seconds = [completed.seconds, *(completed.phases[phase] for phase in PHASES)]
        row = [completed.record.round, completed.record.clients, *(round(each, 4) for each in seconds)]
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(row)


@dataclass
class Callback(Hook):
    """Calls a function with each completed round, for instance to log it to MLflow."""

    function: Callable[[CompletedRound], None]
    phase = "deliver"

    def on_round_end(self, completed: CompletedRound) -> None:
        self.function(completed)


class SaveCheckpoints(Hook):
    """Saves the training from time to time, and when it is stopped by a signal or has lost its workers.

    A save that fails is reported and does not end the training.
    """

    phase = "checkpoint"

    def __init__(self, checkpoints: Checkpoints, history: History, engine: Engine, kept: KeptState | None) -> None:
        self._checkpoints, self._history, self._engine, self._kept = checkpoints, history, engine, kept
        self._resumed = self._saved = len(history.records)

    def on_round_end(self, completed: CompletedRound) -> None:
        if self._checkpoints.due():
            self._save()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, KeyboardInterrupt | WorkersLostError):
            return
        try:
            self._save()
        except PipelineError as failure:
            say(f"the last rounds could not be saved: {failure}")
        if self._saved:
            say(f"stopped; run it again to resume after round {self._saved}")

    def _save(self) -> None:
        completed = len(self._history.records)
        if completed == self._saved:
            return
        try:
            with self._checkpoints.timed():
                self._checkpoints.save(self._checkpoint(), self._kept)
            self._saved = completed
        except OSError as error:
            say(f"the checkpoint after round {completed} could not be written: {error.strerror or error}")

    def _checkpoint(self) -> Checkpoint:
        """The training after its last completed round; the engine may be one round ahead."""
        history = self._history
        ahead = self._resumed + self._engine.rounds - len(history.records)
        state = self._engine.state(before_last=ahead == 1)
        return history.checkpoint(list(history.records), state, history.best)


@dataclass
class StopWithoutGain(Hook):
    """Ends the training when the accuracy on ``samples`` has not risen for ``train.stop_at.patience`` rounds."""

    patience: int
    samples: str  # `train.selection`
    history: History

    def stops(self, last: RoundRecord) -> bool:
        measured = [(record.accuracy_on(self.samples), -record.round) for record in self.history.records]
        known = [each for each in measured if each[0] is not None]
        return bool(known) and last.round + max(known)[1] >= self.patience


@dataclass
class StopAtTarget(Hook):
    """Ends the training with the first round whose accuracy on ``samples`` reaches ``train.stop_at.accuracy``."""

    target: float
    samples: str  # `train.selection`

    def stops(self, last: RoundRecord) -> bool:
        return last.reaches(self.target, self.samples)
