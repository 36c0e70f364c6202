"""The hooks of a training, one responsibility each; `training.Training.run` says in which order they come."""

import csv
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from fedpipe.errors import PipelineError
from fedpipe.networks.network import Weights
from fedpipe.privacy.ledger import Ledger
from fedpipe.runtime.checkpoint import Best, Checkpoint
from fedpipe.runtime.checkpoints import Checkpoints
from fedpipe.runtime.chunks import WorkersLostError
from fedpipe.runtime.engine import Engine
from fedpipe.runtime.kept_state import KeptState
from fedpipe.runtime.phases import PHASES, Phases
from fedpipe.runtime.progress import say
from fedpipe.runtime.records import SCORE, RoundRecord
from fedpipe.runtime.rounds import CompletedRound, History, Hook, Round

# (weights) -> figures of the global model on test samples, by the name of their column
Evaluate = Callable[[Weights], dict[str, float]]


class InOrder(Hook):
    """Several hooks as one, each timed under its phase."""

    def __init__(self, hooks: Iterable[Hook], phases: Phases) -> None:
        self._hooks, self._phases, self._stack = list(hooks), phases, ExitStack()

    def on_clients(self, number: int, cohort: int, done: int) -> None:
        """Calls each."""
        for hook in self._timed():
            hook.on_clients(number, cohort, done)

    def measure(self, current: Round) -> None:
        """Calls each."""
        for hook in self._timed():
            hook.measure(current)

    def on_round_end(self, completed: CompletedRound) -> None:
        """Calls each."""
        for hook in self._timed():
            hook.on_round_end(completed)

    def stops(self, last: RoundRecord) -> bool:
        """Whether one of them ends the training."""
        return any(hook.stops(last) for hook in self._hooks)

    def __enter__(self) -> "InOrder":
        for hook in self._hooks:
            self._stack.enter_context(hook)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _timed(self) -> Iterator[Hook]:
        for hook in self._hooks:
            with self._phases.timed(hook.phase):
                yield hook


class EvaluateModel(Hook):
    """Measures the global model on test samples in every ``every``-th round, and in the last of ``rounds``."""

    phase = "evaluate"

    def __init__(self, evaluate: Evaluate, every: int, rounds: int) -> None:
        self._evaluate, self._every, self._rounds = evaluate, every, rounds

    def measure(self, current: Round) -> None:
        """Adds the columns of the test samples."""
        if current.number % self._every == 0 or current.number == self._rounds:
            current.columns |= self._evaluate(current.weights)


class KeepBest(Hook):
    """Keeps the weights of the round with the highest score; of equal ones, the first."""

    def measure(self, current: Round) -> None:
        """Compares the round with the best one before."""
        score = current.columns.get(SCORE)
        if score is not None and (current.best is None or score > current.best.score):
            current.best = Best(score, current.number, current.weights)


class PrivacySpent(Hook):
    """Adds the column epsilon: what the rounds so far have spent."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def measure(self, current: Round) -> None:
        """Adds the column."""
        current.columns["epsilon"] = self._ledger.epsilon(current.number)


class PhaseTable(Hook):
    """``phases.csv``: one row per round with the seconds of each phase."""

    def __init__(self, path: Path, resumed: bool) -> None:
        """``resumed``: whether rows of an earlier process stay."""
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if not (resumed and path.exists()):
            path.write_text(",".join(("round", "clients", "seconds", *PHASES)) + "\n", encoding="utf-8")

    def on_round_end(self, completed: CompletedRound) -> None:
        """Appends the row."""
        seconds = [completed.seconds, *(completed.phases[phase] for phase in PHASES)]
        row = [completed.record.round, len(completed.selected.clients), *(round(each, 4) for each in seconds)]
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(row)


class Callback(Hook):
    """Calls a function with each completed round, for instance to log it to MLflow."""

    phase = "deliver"

    def __init__(self, function: Callable[[CompletedRound], None]) -> None:
        self._function = function

    def on_round_end(self, completed: CompletedRound) -> None:
        """Calls the function."""
        self._function(completed)


class SaveCheckpoints(Hook):
    """Saves the training from time to time, and when it is stopped by a signal or has lost its workers.

    A save that fails is reported and does not end the training.
    """

    phase = "checkpoint"

    def __init__(self, checkpoints: Checkpoints, history: History, engine: Engine, kept: KeptState | None) -> None:
        self._checkpoints, self._history, self._engine, self._kept = checkpoints, history, engine, kept
        self._resumed = self._saved = len(history.records)

    def on_round_end(self, completed: CompletedRound) -> None:
        """Saves if it is time to."""
        if self._checkpoints.due():
            self._save()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, KeyboardInterrupt | WorkersLostError):
            return
        try:
            self._save()
        except PipelineError as failure:
            say(f"the last rounds could not be saved: {failure}")
        if self._saved:
            say(f"stopped; run it again to go on after round {self._saved}")

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
        return Checkpoint(list(history.records), list(history.seconds), state, history.best)


class StopAtTarget(Hook):
    """Ends the training with the first round that reaches ``train.stop_at.accuracy``."""

    def __init__(self, target: float) -> None:
        self._target = target

    def stops(self, last: RoundRecord) -> bool:
        """At the target."""
        return last.reaches(self._target)
