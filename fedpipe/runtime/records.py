"""The traces of a round: a record, a row of metrics/rounds.csv, a line of the log."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.ticker import MaxNLocator

from fedpipe.atomic import atomic_file
from fedpipe.contracts.model import METRICS
from fedpipe.errors import DivergedError, NothingTrainedError, PipelineError
from fedpipe.figures import COLOURS, picture
from fedpipe.learning.measurements import CLIENT_ROWS, CLIP_NORM, COMPRESSED, SILENT, Measurements, column
from fedpipe.learning.message_bytes import ClientBytes
from fedpipe.runtime.cohort import Cohort

_COLUMNS = {"loss": "train_loss", "accuracy": "train_accuracy"}  # of attributes whose name leaves out the samples
# Columns measured on samples that may be training images: the validation samples, and clients' own samples.
_OF_TRAINING_IMAGES = ("validation_", "test_clients_", "held_out_")
_MEASURED = ("loss", "accuracy", "clients", "non_finite", "examples")  # columns of every training
_NO_COLUMN = ("seen", COMPRESSED, SILENT, CLIENT_ROWS)
_COLUMNS_OF_A_TERMINAL = 80
_LOSS_BYTES = 4  # of the number that a client sends that is measured


def require_contribution(
    number: int, cohort: Cohort, measured: Measurements, may_be_empty: bool = False, drops: bool = False
) -> None:
    """Checks that a round left a model to continue with.

    ``may_be_empty``: whether a round without a training example is no mistake. A round that asks nobody never is one.
    ``drops``: whether batches that are not whole are dropped (``train.last_batch``).

    Raises:
      DivergedError: All clients that trained sent an update that is not finite.
      NothingTrainedError: No client could train.
    """
    non_finite, seen = int(measured["non_finite"].total), int(measured["seen"].total)
    if non_finite and not seen:
        raise DivergedError(
            f"round {number}: the updates of all {non_finite} clients were not finite (the loss grew without bound); "
            "lower 'train.client_optimizer.learning_rate' or 'train.server_optimizer.learning_rate' in params.yaml"
        )
    if seen or may_be_empty or not cohort.updates:
        return
    if drops:
        raise NothingTrainedError(
            f"round {number}: none of its {cohort.updates} clients has a whole batch, and 'train.last_batch' drops "
            "smaller ones; set it to keep, or lower 'train.batch_size' in params.yaml"
        )
    raise NothingTrainedError(
        f"round {number}: none of its {cohort.updates} clients has a sample; raise 'train.clients_per_round' or the "
        "min_size of the partition's scheme in params.yaml"
    )


def diverged(records: "Sequence[RoundRecord]") -> tuple[float, float] | None:
    """First and last training loss of a training whose loss grew tenfold, to more than 10; None of any other.

    A model that knows nothing has the cross-entropy ln(classes), 5.5 for 256 classes.
    """
    losses = [record.loss for record in records if record.loss is not None]
    return (losses[0], losses[-1]) if losses and losses[-1] > 10 * max(losses[0], 1.0) else None


@dataclass(frozen=True)
class RoundRecord:
    """The figures of one round; nothing in it changes from run to run.

    Loss and accuracy are means over the examples as the clients trained on them, each with its client's weights
    before that step. Bytes are those of the messages to and from each client of the cohort. The figures on
    validation and test samples are those of the global model after the round, in rounds that are evaluated. A round
    without a training example has no mean of anything: None. With secret noise, whatever clients' data decide is
    withheld: None (`withheld`).
    """

    round: int
    loss: float | None
    accuracy: float | None
    clients: int | None
    non_finite: int | None
    examples: int | None
    bytes_down: int | None
    bytes_up: int | None
    test_loss: float | None = None
    test_accuracy: float | None = None
    others: dict[str, float | None] = field(default_factory=dict)  # further columns: what else was measured, by name

    @staticmethod
    def of(
        number: int, cohort: Cohort, measured: Measurements, sent: ClientBytes, test: Mapping[str, float]
    ) -> "RoundRecord":
        """Makes the record of a round.

        Args:
          number: 1 for the first.
          cohort: The clients of the round. Its counts are columns; ``asked`` counts the clients that got the model, if
            they are more than the cohort, and ``measured`` those that got it to send a loss.
          measured: By clients and server; each measurement is a column, but for what only other figures are made of.
          sent: Bytes to and from a client.
          test: Figures of the global model on validation and test samples, by column; empty in a round without
            evaluation.

        Raises:
          PipelineError: Two columns would have the same name.
        """
        seen, clients = int(measured["seen"].total), int(measured["clients"].total)
        figures = {name: column(measured[name], seen, clients) for name in sorted(measured) if name not in _NO_COLUMN}
        losses = int(cohort.counts.get("measured", 0))
        reached = max(int(cohort.counts.get("asked", cohort.updates)), losses)
        compressed, silent = (int(measured[name].total) if name in measured else 0 for name in (COMPRESSED, SILENT))
        record = RoundRecord(
            round=number,
            **{name: figures.pop(name) for name in _MEASURED},  # type: ignore[arg-type]
            bytes_down=reached * sent.down,
            bytes_up=(cohort.updates - silent) * sent.up + compressed + _LOSS_BYTES * losses,
            test_loss=test.get("test_loss"),
            test_accuracy=test.get("test_accuracy"),
        )
        others = [*cohort.counts.items(), *((_column(name), value) for name, value in figures.items())]
        others += [(name, value) for name, value in test.items() if name not in ("test_loss", "test_accuracy")]
        names = [*record.row(), *(name for name, _ in others)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise PipelineError(f"metrics/rounds.csv would have two columns {', '.join(twice)}: rename a measurement")
        return replace(record, others=dict(others))

    def withheld(self, measured_after: Mapping[str, float]) -> "RoundRecord":
        """The record with secret noise: without what clients' data decide (docs/privacy.md).

        Args:
          measured_after: Figures that follow from the model or from params, once the noise was added, by column. Those
            of validation samples and of clients' own test samples are withheld as well.
        """
        public = {CLIP_NORM, *(name for name in measured_after if not name.startswith(_OF_TRAINING_IMAGES))}
        nothing: dict[str, Any] = dict.fromkeys((*_MEASURED, "bytes_down", "bytes_up"))
        return replace(
            self, **nothing, others={name: value if name in public else None for name, value in self.others.items()}
        )

    def row(self) -> dict[str, float | int | None]:
        """The figures by the name of their column, which names the samples of a loss or an accuracy."""
        figures = {_COLUMNS.get(name, name): value for name, value in asdict(self).items()}
        return figures | figures.pop("others")

    @property
    def is_evaluated(self) -> bool:
        """Whether the global model was measured after the round."""
        return self.accuracy_on("test") is not None or self.accuracy_on("validation") is not None

    def accuracy_on(self, samples: str) -> float | None:
        """The accuracy of the global model on the ``test`` or ``validation`` samples; None if it was not measured."""
        return self.test_accuracy if samples == "test" else self.others.get(f"{samples}_accuracy")

    def reaches(self, target: float | None, samples: str) -> bool:
        """Whether there is a target, and the accuracy on ``samples`` is at least as high."""
        accuracy = self.accuracy_on(samples)
        return target is not None and accuracy is not None and accuracy >= target

    def accuracies(self) -> str:
        """The accuracies for a person: ``accuracy train 0.7330, validation 0.7785, test 0.7828``; empty without any."""
        by_samples = {"train": self.accuracy} | {name: self.accuracy_on(name) for name in ("validation", "test")}
        known = [f"{name} {value:.4f}" for name, value in by_samples.items() if value is not None]
        return f"accuracy {', '.join(known)}" if known else ""

    def line(self, rounds: int, seconds: float) -> str:
        """One line of the log."""
        clients = "" if self.clients is None else f"{self.clients} clients"
        parts = [self._trained(), self.accuracies(), clients, self._left_out(), self._spent(), f"{seconds:.2f} s"]
        return f"round {self.round}/{rounds}: {', '.join(filter(None, parts))}"

    def short_line(self, rounds: int, left: float) -> str:
        """One line for a terminal of 80 columns; ``left`` is the number of seconds until the last round ends.

        Fields that do not fit are left out: the loss first, then the time. Accuracies and warnings stay.
        """
        time = f"{left:,.0f} s left"
        start, shown = f"round {self.round}/{rounds}: ", [self.accuracies(), self._left_out(), self._spent()]
        for parts in ([self._trained(), *shown, time], [*shown, time], shown):
            line = start + ", ".join(filter(None, parts))
            if len(line) <= _COLUMNS_OF_A_TERMINAL:
                break
        return line

    def _trained(self) -> str:
        if self.clients is None:  # withheld
            return ""
        return "no training example" if self.loss is None else f"train loss {self.loss:.4f}"

    def _left_out(self) -> str:
        return f"{self.non_finite} left out as not finite" if self.non_finite else ""

    def _spent(self) -> str:
        return f"epsilon {self.others['epsilon']:.3g}" if "epsilon" in self.others else ""


def _column(measurement: str) -> str:
    """The column of what clients measured: of a metric, the name says that it is measured on their training samples."""
    return f"train_{measurement}" if measurement in METRICS.names else measurement


def write_table(records: Sequence[RoundRecord], path: Path) -> None:
    """Writes the records to ``path`` as CSV, one row per round."""
    with atomic_file(path) as partial:
        pd.DataFrame([record.row() for record in records]).to_csv(partial, index=False)


def plot(records: Sequence[RoundRecord], title: str, path: Path) -> None:
    """Draws loss and accuracy over the rounds to ``path``; and epsilon, if the training has one."""
    rounds = [record.round for record in records]
    private = "epsilon" in records[0].others
    with picture(path, 11 if private else 8.2, 3.4) as figure:
        loss, accuracy, *more = figure.subplots(1, 3 if private else 2)
        losses = [math.nan if record.loss is None else record.loss for record in records]
        accuracies = [math.nan if record.accuracy is None else record.accuracy for record in records]
        if any(record.clients is not None for record in records):  # not withheld
            loss.plot(rounds, losses, "o-", color=COLOURS["train"], markersize=3, label="train")
            accuracy.plot(rounds, accuracies, "o-", color=COLOURS["train"], markersize=3, label="train")
        for samples in ("validation", "test"):
            rows = [record.row() for record in records if record.accuracy_on(samples) is not None]
            style: dict[str, Any] = {"linestyle": "--", "marker": "s", "markersize": 3, "color": COLOURS[samples]}
            for axes, figure_name in ((loss, "loss"), (accuracy, "accuracy")) if rows else ():
                values = [row[f"{samples}_{figure_name}"] for row in rows]
                axes.plot([row["round"] for row in rows], values, label=samples, **style)
        if accuracy.lines:
            accuracy.legend(loc="lower right")
        loss.set(ylabel="loss", ylim=(0, None))
        accuracy.set(ylabel="accuracy", ylim=(0, 1))
        for axes in more:
            axes.plot(rounds, [record.others["epsilon"] for record in records], "-", color=COLOURS["epsilon"])
            axes.set(ylabel="epsilon spent", ylim=(0, None))
        for axes in (loss, accuracy, *more):
            axes.set(xlabel="round")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.suptitle(title)
