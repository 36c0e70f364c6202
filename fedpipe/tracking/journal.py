"""What a run has to tell MLflow, written down at once and delivered by another process.

Training neither waits for a tracking server nor fails because of one. It does not import MLflow (three seconds of CPU).
It appends events to a journal (outbox.py), and a follower delivers them to MLflow as they appear. A journal that
could not be delivered stays, and the next follower or ``make sync`` delivers it.

In the environment, ``FEDPIPE_TRACKING=off`` turns all of it off, ``MLFLOW_TRACKING_URI`` names a server, and
``FEDPIPE_TRACKING_WAIT`` is how many seconds a stage waits for delivery at its end.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from ruamel.yaml import YAML
from tqdm import tqdm

from fedpipe.atomic import naming
from fedpipe.config import PARAMS_FILE
from fedpipe.errors import stopped_by
from fedpipe.tracking import run_events
from fedpipe.tracking.outbox import Journal, locked, outbox, pending, project, shown_uri
from fedpipe.tracking.run_events import Event, results

LOG = Path("logs/tracking.log")
_WAIT_SECONDS = 30.0
_STAMP = "%Y%m%dT%H%M%S.%f"
_TRAINED = (
    run_events.ROUNDS,
    run_events.SUMMARY,
    run_events.PARTITION,
)  # tables of a training that an evaluation finds again


class Writer:
    """A journal in the making, and the follower that delivers it."""

    def __init__(self, kind: str) -> None:
        name = self.name = f"{_later_than_all(datetime.now(UTC)):{_STAMP}}Z-{kind}-{os.getpid()}"
        # Hidden until `publish`, so that nobody delivers a journal without its beginning.
        self._hidden = outbox() / f".{name}"
        self._hidden.mkdir(parents=True)
        self.journal = Journal(self._hidden)
        self._events = (self._hidden / "events.jsonl").open("a", encoding="utf-8")
        locked(self._events, fcntl.LOCK_EX)
        self._follower: subprocess.Popen[bytes] | None = None
        self._said = False
        self.has_events = False

    def keep(self, files: Mapping[str, Sequence[Path]]) -> dict[str, list[str]]:
        """Copies files into the journal and returns where they are there, by artifact folder."""
        return {folder: [self._keep(path, folder) for path in paths] for folder, paths in files.items() if paths}

    def keep_params(self, params: Mapping[str, Any]) -> dict[str, list[str]]:
        """Writes what a run is made with as a params.yaml; returns where it is, as `keep` does."""
        kept = Path("files", PARAMS_FILE.name)
        target = self.journal.path / kept
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("w", encoding="utf-8") as file:
            yaml: Any = YAML(typ="safe", pure=True)
            yaml.default_flow_style, yaml.sort_base_mapping_type_on_output = False, False
            yaml.dump(dict(params), file)
        return {"": [str(kept)]}

    def keep_weights(self, path: Path) -> dict[str, str]:
        """Copies the weights into the journal; returns ``path`` there and ``sha256``."""
        kept = self._keep(path, "weights")
        return {"path": kept, "sha256": run_events.sha256(self.journal.path / kept)}

    def _keep(self, path: Path, folder: str) -> str:
        kept = Path("files", folder, path.name)
        target = self.journal.path / kept
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        return str(kept)

    def add(self, *events: Event) -> None:
        """Appends ``events`` together, so that they survive the end of this process."""
        with naming(self.journal.path):
            self._events.write("".join(json.dumps(event) + "\n" for event in events))
            self._events.flush()
        self.has_events = True

    def add_rebuilding(self, events: Sequence[Event]) -> None:
        """Stores the training's events in case MLflow has no run for them."""
        lines = "".join(json.dumps(event) + "\n" for event in events)
        (self.journal.path / "rebuild.jsonl").write_text(lines, encoding="utf-8")

    def publish(self) -> None:
        """Shows the journal to followers, and starts one for it."""
        self.journal = Journal(self._hidden.with_name(self._hidden.name[1:]))
        self._hidden.rename(self.journal.path)
        self._follower = _start_follower(self.journal)

    def say_trouble(self) -> None:
        """Says once that MLflow does not get the run, if so; costs one look for a file and one for a process."""
        if self._said:
            return
        code = self._follower.poll() if self._follower else None
        if trouble := _ended(code) or self.journal.delivery().trouble:
            self._said = True
            _say(f"MLflow: {shown_uri()} {trouble}; the run goes on, and its events are kept in {outbox()}")

    def discard(self) -> None:
        """Ends without having told anything."""
        if self._follower:
            self._follower.terminate()
            self._follower.wait()
        self._events.close()
        self.journal.remove()

    def close(self) -> None:
        """Waits, for a bounded time, until all is delivered, and says in one line what became of it."""
        seconds = float(os.environ.get("FEDPIPE_TRACKING_WAIT", _WAIT_SECONDS))
        ended = ""
        if self._follower:
            try:
                ended = _ended(self._follower.wait(seconds))
            except subprocess.TimeoutExpired:
                self._follower.terminate()
                self._follower.wait()
        delivery = self.journal.delivery()
        if delivery.done:
            self.journal.remove()
            _say(f"MLflow: run {delivery.run_name} in {shown_uri()}")
        else:
            count = sum(1 for _ in self.journal.events())
            trouble = ended or delivery.trouble or f"did not take the run within {seconds:g} s (see {project() / LOG})"
            _say(
                f"MLflow: {shown_uri()} {trouble}; the run went on, and its {count} events are kept in "
                f"{outbox()}; they are logged by the next run or by 'make sync'"
            )
        self._events.close()


def _later_than_all(now: datetime) -> datetime:
    """``now``, or a moment after the newest journal, whose order names say even if the clock was set back."""
    latest = now
    for journal in pending():
        with suppress(ValueError):  # a folder that somebody else made
            stamp = datetime.strptime(journal.name.split("Z-")[0], _STAMP).replace(tzinfo=UTC)
            latest = max(latest, stamp + timedelta(microseconds=1))
    return latest


def _ended(code: int | None) -> str:
    """What an exit code of a follower says of the store; empty if it is none or the follower has had its say."""
    if code is None or code == 0:
        return ""
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"does not get the run, since the process that delivers it {how} (see {project() / LOG})"


def _start_follower(journal: Journal) -> subprocess.Popen[bytes]:
    top = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [top, os.environ.get("PYTHONPATH")]))
    with (project() / LOG).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "fedpipe.tracking", "follow", str(journal.path)],
            env=os.environ | {"PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=log,  # not the stage's: a follower must not keep `dvc repro | cat` open
            stderr=log,
            start_new_session=True,  # a Ctrl-C at the terminal is for the stage, and the follower reports it
        )


def _say(line: str) -> None:
    """One line to standard error, above a progress bar if there is one."""
    tqdm.write(line, file=sys.stderr)


@dataclass(frozen=True)
class Earlier:
    """What an earlier process did of a training that goes on now."""

    identity: Mapping[str, str]  # as `TrainingRecord.identity` was then
    rounds: Sequence[Mapping[str, float]]  # what `TrainingRecord.log_round` was told of rounds 1, 2, ...


class TrainingRecord:
    """A training in MLflow, from the start of the with block to its end.

    One that goes on continues its run, unless params were changed, which a run cannot: then it is another run. The
    rounds before are told once more; delivery leaves out what the run has.
    """

    identity: Mapping[str, str]  # says which run this is, for a process that goes on with the training

    def __init__(self, started: Mapping[str, Any], earlier: Earlier | None) -> None:
        self._writer = Writer("training")
        event = run_events.start(started, self._writer.keep_params(started.get("params", {})))
        self.identity = {"journal": self._writer.name, "params": run_events.same_run(event)}
        if earlier is not None:
            if earlier.identity.get("params") == self.identity["params"]:
                self.identity = earlier.identity
            event = run_events.resumed(event, self.identity["journal"], len(earlier.rounds))
        self._writer.add(event)
        for number, metrics in enumerate(earlier.rounds if earlier else (), start=1):
            self._writer.add(run_events.round_metrics(number, metrics))

    def __enter__(self) -> "TrainingRecord":
        self._writer.publish()
        return self

    def log_round(self, step: int, metrics: Mapping[str, float]) -> None:
        """Records what round ``step`` measured: loss, accuracy, seconds, bytes, ..."""
        self._writer.add(run_events.round_metrics(step, metrics))
        self._writer.say_trouble()

    def log_results(
        self,
        weights: Path,
        tables: Sequence[Path] = (),
        pictures: Sequence[Path] = (),
        figures: Mapping[str, Any] | None = None,
    ) -> None:
        """Records what the training made.

        Args:
          weights: The file of weights; MLflow gets it as a model, and its SHA-256 to find the run by.
          tables: Files for the run's artifact folder ``tables``.
          pictures: Files for the run's artifact folder ``pictures``.
          figures: Numbers among them become metrics, the rest tags.
        """
        files = self._writer.keep({"tables": tables, "pictures": pictures})
        self._writer.add(results(figures or {}, files, self._writer.keep_weights(weights)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._writer.add(run_events.end("FINISHED"))
        elif isinstance(error, KeyboardInterrupt):
            self._writer.add(run_events.end("KILLED", stopped_by(error)))
        else:
            self._writer.add(run_events.end("FAILED", f"{type(error).__name__}: {error}"))
        self._writer.close()


class _Untracked(TrainingRecord):
    """The same with ``FEDPIPE_TRACKING=off``: nothing is written, nothing is started."""

    def __init__(self) -> None:
        self.identity = {}

    def __enter__(self) -> "_Untracked":
        return self

    def log_round(self, *_: object, **__: object) -> None:
        pass

    def log_results(self, *_: object, **__: object) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def record_training(started: Mapping[str, Any], earlier: Earlier | None = None) -> TrainingRecord:
    """A context manager that records one training.

    The run ends as FINISHED; as FAILED when the block raises, as KILLED after Ctrl-C or ``kill -9``.

    Args:
      started: As for `fedpipe.tracking.run_events.start`.
      earlier: What was done of it before, if it goes on from a checkpoint.

    Raises:
      PipelineError: The pool's ledger or dvc.lock is damaged.
    """
    return TrainingRecord(started, earlier) if _is_on() else _Untracked()


class EvaluationRecord:
    """An evaluation in MLflow. The follower starts with the block, so that its imports take no time at the end of it.

    Nothing is logged if the block raises, or if `log_results` is not called in it.
    """

    def __init__(self) -> None:
        self._writer: Writer | None = None

    def __enter__(self) -> "EvaluationRecord":
        if _is_on():
            self._writer = Writer("evaluation")
            self._writer.publish()
        return self

    def log_results(
        self,
        weights: Path,
        metrics: Mapping[str, Any],
        tables: Sequence[Path] = (),
        pictures: Sequence[Path] = (),
        params: Mapping[str, Any] | None = None,
    ) -> None:
        """Adds the evaluation to the run that trained ``weights``, and makes that run where MLflow has none.

        The run that is made has the params of dvc.lock, as far as the training's outputs are those that dvc.lock knows.

        Args:
          weights: The file of weights; its SHA-256 finds the run.
          metrics: What was measured; also nested, then the names are joined with dots.
          tables: Files for the run's artifact folder ``tables``.
          pictures: Files for the run's artifact folder ``pictures``.
          params: What the evaluation was made with, as a tree. They become tags: MLflow never changes a run's param,
            and the same weights may be evaluated again in another way.

        Raises:
          PipelineError: dvc.lock is damaged.
        """
        writer = self._writer
        if writer is None:
            return
        trained = run_events.recorded_params(*run_events.TRAINED_BY)
        kept = writer.keep_weights(weights)
        files = writer.keep_params(trained) | writer.keep({"tables": [path for path in _TRAINED if path.exists()]})
        evaluated = results(metrics, writer.keep({"tables": tables, "pictures": pictures}))
        evaluated["tags"] |= run_events.flatten(params or {})
        writer.add_rebuilding(run_events.rebuilt(trained, files, kept))
        # All at once: an evaluation that is cut short is to leave no trace in the training's run.
        writer.add(run_events.find(kept["sha256"]), evaluated, run_events.end(""))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close() if self._writer.has_events else self._writer.discard()


def record_evaluation(*args: Any, **kwargs: Any) -> None:
    """Logs an evaluation that is over: `EvaluationRecord.log_results`, whose arguments it takes."""
    with EvaluationRecord() as record:
        record.log_results(*args, **kwargs)


def _is_on() -> bool:
    return os.environ.get("FEDPIPE_TRACKING") != "off"
