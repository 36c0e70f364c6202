"""A run's records for MLflow, written down at once and delivered by another process.

Training neither waits for a tracking server nor fails because of one. It does not import MLflow (three seconds of CPU).
It appends events to a journal (outbox.py), and a follower delivers them to MLflow as they appear. A journal that
could not be delivered stays, and the next follower or ``make sync`` delivers it.

In the environment, ``FEDPIPE_TRACKING=off`` turns all of it off, ``MLFLOW_TRACKING_URI`` names a server, and
``FEDPIPE_TRACKING_WAIT`` is how many seconds a stage waits for delivery at its end.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedpipe.errors import stopped_by
from fedpipe.tracking import run_events
from fedpipe.tracking.naming import NOTE_TAG, Changing, description
from fedpipe.tracking.outbox import Outbox
from fedpipe.tracking.pipeline import TRAINED_BY, PipelineFiles
from fedpipe.tracking.run_events import results
from fedpipe.tracking.writer import Writer


@dataclass(frozen=True)
class Earlier:
    """The part of a resumed training that earlier processes did."""

    identity: Mapping[str, str]  # as `TrainingRecord.identity` was then
    rounds: Sequence[Mapping[str, float]]  # metrics passed to `TrainingRecord.log_round` for rounds 1, 2, ...


class TrainingRecord:
    """A training in MLflow, from the start of the with block to its end.

    A resumed one continues its run, unless params were changed, which a run cannot: then it is another run. The
    rounds before are logged once more; delivery omits those that the run has.
    """

    identity: Mapping[str, str]  # identifies this run, for a process that resumes the training

    def __init__(self, started: Mapping[str, Any], outbox: Outbox, earlier: Earlier | None) -> None:
        self._writer = Writer("training", outbox)
        files = self._writer.keep_params(started.get("params", {}))
        if environment := started.get("environment"):
            files = {"": files[""] + self._writer.keep_json("environment.json", environment)}
        event = run_events.start(started, files)
        self._started, self._rounds, self._last = started, 0, dict[str, float]()
        self._changing = Changing()
        self.identity = {"journal": self._writer.name, "params": run_events.same_run(event)}
        if earlier is not None:
            if earlier.identity.get("params") == self.identity["params"]:
                self.identity = earlier.identity
            event = run_events.resumed(event, self.identity["journal"], len(earlier.rounds))
        self._writer.add(event)
        for number, metrics in enumerate(earlier.rounds if earlier else (), start=1):
            self._add_round(number, metrics)

    def __enter__(self) -> "TrainingRecord":
        self._writer.publish()
        return self

    def log_round(self, step: int, metrics: Mapping[str, float]) -> None:
        """Records what round ``step`` measured, by column: train_loss, train_accuracy, seconds, bytes_up, ..."""
        self._add_round(step, metrics)
        self._writer.say_trouble()

    def log_results(
        self,
        weights: Path,
        tables: Sequence[Path] = (),
        pictures: Sequence[Path] = (),
        figures: Mapping[str, Any] | None = None,
    ) -> None:
        """Records the results of the training.

        Args:
          weights: The file of weights; MLflow gets it as a model, and its SHA-256 to find the run by.
          tables: Files for the run's artifact folder ``tables``.
          pictures: Files for the run's artifact folder ``pictures``.
          figures: Numbers among them become metrics, the rest tags.
        """
        files = self._writer.keep({"tables": tables, "pictures": pictures})
        self._writer.add(results(figures or {}, files, self._writer.keep_weights(weights)))

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self._writer.add(run_events.end("FINISHED", description=self._described("finished")))
        elif isinstance(error, KeyboardInterrupt):
            reason = stopped_by(error)
            self._writer.add(run_events.end("KILLED", reason, self._described(f"{reason}; `dvc repro` resumes it,")))
        else:
            reason = f"{type(error).__name__}: {error}"
            self._writer.add(run_events.end("FAILED", reason, self._described("failed")))
        self._writer.close()

    def _add_round(self, step: int, metrics: Mapping[str, float]) -> None:
        self._writer.add(run_events.round_metrics(step, metrics, self._changing))
        self._rounds, self._last = step, dict(metrics)

    def _described(self, ending: str) -> str:
        """The run's description at its end."""
        accuracies = {
            samples: self._last[f"{samples}_accuracy"]
            for samples in ("train", "validation", "test")
            if f"{samples}_accuracy" in self._last
        }
        shown = ", ".join(f"{samples} {value:.4f}" for samples, value in accuracies.items())
        ending = f"{ending} after {self._rounds} rounds" + (f": accuracy {shown}" if shown else "")
        return description(self._started.get("params", {}), self._started["dataset"]["name"], ending)


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


def record_training(started: Mapping[str, Any], outbox: Outbox, earlier: Earlier | None = None) -> TrainingRecord:
    """A context manager that records one training.

    The run ends as FINISHED; as FAILED when the block raises, as KILLED after Ctrl-C or ``kill -9``.

    Args:
      started: As for `fedpipe.tracking.run_events.start`.
      outbox: Where the journal is kept until it is delivered.
      earlier: The part done before, if it resumes from a checkpoint.
    """
    return TrainingRecord(started, outbox, earlier) if _is_on() else _Untracked()


class EvaluationRecord:
    """An evaluation in MLflow. The follower starts with the block, so that its imports take no time at the end of it.

    Nothing is logged if the block raises, or if `log_results` is not called in it.
    """

    def __init__(self, outbox: Outbox, pipeline: PipelineFiles) -> None:
        self._outbox, self._pipeline = outbox, pipeline
        self._writer: Writer | None = None

    def __enter__(self) -> "EvaluationRecord":
        if _is_on():
            self._writer = Writer("evaluation", self._outbox)
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
          metrics: The measurements; also nested, then the names are joined with slashes (`run_events.metrics_of`).
          tables: Files for the run's artifact folder ``tables``.
          pictures: Files for the run's artifact folder ``pictures``.
          params: The params of the evaluation, as a tree (`fedpipe.tracking.late_params`).

        Raises:
          PipelineError: dvc.lock or the pool's ledger is damaged.
        """
        writer, pipeline = self._writer, self._pipeline
        if writer is None:
            return
        trained = pipeline.recorded_params(*TRAINED_BY)
        kept = writer.keep_weights(weights)
        files = writer.keep_params(trained) | writer.keep({"tables": pipeline.tables()})
        kept_files = writer.keep({"tables": tables, "pictures": pictures})
        evaluated = results(metrics, kept_files, step=pipeline.last_round())
        evaluated["late_params"] = run_events.flat_params(params or {})
        if trained:
            evaluated["tags"][NOTE_TAG] = pipeline.describe(trained, _measured(metrics, pipeline.last_round()))
        writer.add_rebuilding(pipeline.rebuilt(trained, files, kept))
        # All at once: an evaluation that is cut short is to leave no trace in the training's run.
        opened = run_events.find(kept["sha256"], pipeline.dataset()["name"])
        writer.add(opened, evaluated, run_events.end(""))

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._writer is not None:
            self._writer.close() if self._writer.has_events else self._writer.discard()


def record_evaluation(outbox: Outbox, pipeline: PipelineFiles, *args: Any, **kwargs: Any) -> None:
    """Logs an evaluation that is over: `EvaluationRecord.log_results`, whose arguments it takes."""
    with EvaluationRecord(outbox, pipeline) as record:
        record.log_results(*args, **kwargs)


def _measured(metrics: Mapping[str, Any], rounds: int) -> str:
    """The result of an evaluation for a person."""
    worst = metrics.get("train", {}).get("clients", {}).get("worst")
    client = f", worst client's accuracy on its training samples {worst:.4f}" if worst is not None else ""
    accuracy = metrics.get("test", {}).get("accuracy")
    tested = f": test accuracy {accuracy:.4f}" if accuracy is not None else ""
    return f"finished after {rounds} rounds, evaluated{tested}{client}"


def _is_on() -> bool:
    return os.environ.get("FEDPIPE_TRACKING") != "off"
