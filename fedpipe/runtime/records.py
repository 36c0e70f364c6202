"""What a round leaves behind: a record, a row of metrics/rounds.csv, a line of the log."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from fedpipe.atomic import atomic_file
from fedpipe.contracts.model import METRICS
from fedpipe.errors import PipelineError
from fedpipe.figures import picture

_COLUMNS = {"loss": "train_loss", "accuracy": "train_accuracy"}  # of attributes whose name leaves out the samples
_KNOWN = {"loss", "correct", "seen", "examples", "clients", "non_finite", "compressed_bytes"}
_LOSS_BYTES = 4  # of the number that a client sends that is measured


@dataclass(frozen=True)
class RoundRecord:
    """The figures of one round; nothing in it changes from run to run.

    Loss and accuracy are means over the examples as the clients trained on them, each with its client's weights
    before that step. Bytes are those of what is sent down to and back up from each client of the cohort. The figures on
    validation and test samples are those of the global model after the round, in rounds that are evaluated. A round
    without a training example has no mean of anything: None.
    """

    round: int
    loss: float | None
    accuracy: float | None
    clients: int
    non_finite: int
    examples: int
    bytes_down: int
    bytes_up: int
    test_loss: float | None = None
    test_accuracy: float | None = None
    others: dict[str, float | None] = field(default_factory=dict)  # further columns: what else was measured, by name

    @staticmethod
    def of(
        round_number: int,
        cohort: int,
        sums: Mapping[str, float],
        bytes_down: int,
        bytes_up: int,
        test: Mapping[str, float],
        counts: Mapping[str, float] | None = None,
        may_be_empty: bool = False,
    ) -> "RoundRecord":
        """Makes the record from the clients' summed measurements.

        Args:
          round_number: 1 for the first.
          cohort: How many clients were asked.
          sums: loss, correct, seen, examples, clients, non_finite and others, summed over the clients; with a
            compressor, compressed_bytes too. Of the others, a whole number is a count and stays as it is; the others
            become means over the examples.
          bytes_down: What is sent to one client.
          bytes_up: What one client sends, without a compressed update.
          test: Figures of the global model on validation and test samples, by column; empty in a round without
            evaluation.
          counts: Further columns, such as how many attackers were asked. ``asked`` counts those that got the model, if
            they are more than the cohort; ``measured`` those that got it to send a loss.
          may_be_empty: Whether a round without a training example is one of the training's. A round that asks nobody
            always is.

        Raises:
          PipelineError: No client contributed, so there is no model to go on with.
        """
        non_finite, seen = int(sums["non_finite"]), int(sums["seen"])
        if non_finite and not seen:
            raise PipelineError(
                f"round {round_number}: the updates of all {non_finite} clients were not finite (the loss grew without "
                "bound); lower 'train.client_optimizer.learning_rate' or 'train.server_optimizer.learning_rate' in "
                "params.yaml"
            )
        if not seen and cohort and not may_be_empty:
            if int(sums["examples"]):
                raise PipelineError(
                    f"round {round_number}: none of its {cohort} clients has a whole batch, and 'train.last_batch' "
                    "drops smaller ones; set it to keep, or lower 'train.batch_size' in params.yaml"
                )
            raise PipelineError(
                f"round {round_number}: none of its {cohort} clients has a sample; raise 'train.clients_per_round' or "
                "the min_size of the partition's scheme in params.yaml"
            )

        measured = int((counts or {}).get("measured", 0))
        reached = max(int((counts or {}).get("asked", cohort)), measured)

        def mean(total: float) -> float | None:
            return total / seen if seen else None

        def column(total: Any) -> float | None:
            return int(total) if np.asarray(total).dtype.kind in "iu" else mean(float(total))

        return RoundRecord(
            round=round_number,
            loss=mean(float(sums["loss"])),
            accuracy=mean(int(sums["correct"])),
            clients=int(sums["clients"]),
            non_finite=non_finite,
            examples=int(sums["examples"]),
            bytes_down=reached * bytes_down,
            bytes_up=cohort * bytes_up + int(sums.get("compressed_bytes", 0)) + _LOSS_BYTES * measured,
            test_loss=test.get("test_loss"),
            test_accuracy=test.get("test_accuracy"),
            others=dict(counts or {})
            | {_column(name): column(sums[name]) for name in sorted(set(sums) - _KNOWN)}
            | {name: value for name, value in test.items() if name not in ("test_loss", "test_accuracy")},
        )

    def row(self) -> dict[str, float | int | None]:
        """The figures by the name of their column, which says on what a loss or an accuracy is measured."""
        figures = {_COLUMNS.get(name, name): value for name, value in asdict(self).items()}
        return figures | figures.pop("others")

    @property
    def is_evaluated(self) -> bool:
        """Whether the global model was measured after the round."""
        return self.accuracy_on("test") is not None or self.accuracy_on("validation") is not None

    def accuracy_on(self, samples: str) -> float | None:
        """The accuracy of the global model on the ``test`` or ``validation`` samples; None if it was not measured."""
        return self.test_accuracy if samples == "test" else self.others.get(f"{samples}_accuracy")

    def accuracies(self) -> str:
        """The accuracies for a person: ``accuracy train 0.7330, validation 0.7785, test 0.7828``; empty without any."""
        by_samples = {"train": self.accuracy} | {name: self.accuracy_on(name) for name in ("validation", "test")}
        known = [f"{name} {value:.4f}" for name, value in by_samples.items() if value is not None]
        return f"accuracy {', '.join(known)}" if known else ""

    def line(self, rounds: int, seconds: float) -> str:
        """One line for a person."""
        trained = "no training example" if self.loss is None else f"train loss {self.loss:.4f}"
        figures = ", ".join(filter(None, [trained, self.accuracies()]))
        spent = f", epsilon {self.others['epsilon']:.3g}" if "epsilon" in self.others else ""
        left_out = f", {self.non_finite} left out as not finite" if self.non_finite else ""
        return f"round {self.round}/{rounds}: {figures}, {self.clients} clients{left_out}{spent}, {seconds:.2f} s"


def _column(measurement: str) -> str:
    """The column of what clients measured: of a metric, the name says that it is measured on their training samples."""
    return f"train_{measurement}" if measurement in METRICS.names else measurement


def write_table(records: Sequence[RoundRecord], path: Path) -> None:
    """Writes the records to ``path`` as CSV, one row per round."""
    with atomic_file(path) as partial:
        pd.DataFrame([record.row() for record in records]).to_csv(partial, index=False)


def draw(records: Sequence[RoundRecord], title: str, path: Path) -> None:
    """Draws loss and accuracy over the rounds to ``path``; and epsilon, if the training has one."""
    rounds = [record.round for record in records]
    private = "epsilon" in records[0].others
    with picture(path, 13 if private else 9, 3.6) as figure:
        loss, accuracy, *more = figure.subplots(1, 3 if private else 2)
        losses = [math.nan if record.loss is None else record.loss for record in records]
        accuracies = [math.nan if record.accuracy is None else record.accuracy for record in records]
        loss.plot(rounds, losses, "o-", color="C3", markersize=3, label="train")
        accuracy.plot(rounds, accuracies, "o-", color="C0", markersize=3, label="train")
        for samples, colour in (("validation", "C1"), ("test", "0.3")):
            rows = [record.row() for record in records if record.accuracy_on(samples) is not None]
            style: dict[str, Any] = {"linestyle": "--", "marker": "s", "markersize": 3, "color": colour}
            for axes, figure_name in ((loss, "loss"), (accuracy, "accuracy")) if rows else ():
                values = [row[f"{samples}_{figure_name}"] for row in rows]
                axes.plot([row["round"] for row in rows], values, label=samples, **style)
        accuracy.legend(loc="lower right")
        loss.set(ylabel="loss", ylim=(0, None))
        accuracy.set(ylabel="accuracy", ylim=(0, 1))
        for axes in more:
            axes.plot(rounds, [record.others["epsilon"] for record in records], "-", color="C2")
            axes.set(ylabel="epsilon spent", ylim=(0, None))
        for axes in (loss, accuracy, *more):
            axes.set(xlabel="round")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.suptitle(title)
