"""What a round leaves behind: a record, a row of metrics/rounds.csv, a line of the log."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
from matplotlib.ticker import MaxNLocator

from fedpipe.atomic import atomic_file
from fedpipe.errors import PipelineError
from fedpipe.figures import picture


@dataclass(frozen=True)
class RoundRecord:
    """The figures of one round; nothing in it changes from run to run.

    Loss and accuracy are means over the examples as the clients trained on them, each with its client's weights
    before that step. Bytes are those of the weights, sent down to and back up from each client of the cohort.
    """

    round: int
    loss: float
    accuracy: float
    clients: int
    non_finite: int
    examples: int
    bytes_down: int
    bytes_up: int

    @staticmethod
    def of(round_number: int, cohort: int, sums: Mapping[str, float], model_bytes: int) -> "RoundRecord":
        """Makes the record from the clients' summed measurements.

        Args:
          round_number: 1 for the first.
          cohort: How many clients were asked.
          sums: loss, correct, seen, examples, clients and non_finite, summed over the clients.
          model_bytes: The size of the weights.

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
        if not seen:
            raise PipelineError(
                f"round {round_number}: none of its {cohort} clients has a sample; raise 'train.clients_per_round' or "
                "the min_size of the partition's scheme in params.yaml"
            )
        return RoundRecord(
            round=round_number,
            loss=float(sums["loss"]) / seen,
            accuracy=int(sums["correct"]) / seen,
            clients=int(sums["clients"]),
            non_finite=non_finite,
            examples=int(sums["examples"]),
            bytes_down=cohort * model_bytes,
            bytes_up=cohort * model_bytes,
        )

    def line(self, rounds: int, seconds: float) -> str:
        """One line for a person."""
        left_out = f", {self.non_finite} left out as not finite" if self.non_finite else ""
        return (
            f"round {self.round}/{rounds}: loss {self.loss:.4f}, accuracy {self.accuracy:.4f}, "
            f"{self.clients} clients{left_out}, {seconds:.2f} s"
        )


def write_table(records: Sequence[RoundRecord], path: Path) -> None:
    """Writes the records to ``path`` as CSV, a row a round."""
    with atomic_file(path) as partial:
        pd.DataFrame(map(asdict, records)).to_csv(partial, index=False)


def draw(records: Sequence[RoundRecord], title: str, path: Path) -> None:
    """Draws loss and accuracy over the rounds to ``path``."""
    rounds = [record.round for record in records]
    with picture(path, 9, 3.6) as figure:
        loss, accuracy = figure.subplots(1, 2)
        loss.plot(rounds, [record.loss for record in records], "o-", color="C3", markersize=3)
        loss.set(ylabel="training loss", ylim=(0, None))
        accuracy.plot(rounds, [record.accuracy for record in records], "o-", color="C0", markersize=3)
        accuracy.set(ylabel="training accuracy", ylim=(0, 1))
        for axes in (loss, accuracy):
            axes.set(xlabel="round")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.suptitle(title)
