"""Every algorithm on the same clients: curves over the clients' updates, each beside FedAvg's."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from fedpipe.config.section import Concentration, Count, Section, Size
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.datasets.raw import Labelled
from fedpipe.figures import picture
from fedpipe.partitioners import dirichlet
from fedpipe.runtime.records import RoundRecord
from fedpipe.seeds import Purpose, generator
from operations.grid.cells import Cell, Grid, Params, Rows, first_images

BASELINE = "fed_avg"
_ACROSS = 3  # panels in a row of the picture


class Data(Section):
    """How many clients there are, how unlike they are, and training and test images."""

    clients: Count
    alpha: Concentration
    min_size: Size
    samples: Count
    test: Count
    held_out_clients: Size = 0  # clients that never train, for a column of their own


class Algorithms(Grid):
    """The file as it is written."""

    COLUMNS = ("cell", "algorithm", "round", "updates", "test_accuracy", "weights_sha256")

    data: Data
    algorithms: Annotated[dict[str, Params], Field(min_length=1)]
    notes: dict[str, str] = Field(default_factory=dict)  # below the name of an algorithm in the picture

    @model_validator(mode="after")
    def _has_what_it_compares_with(self) -> "Algorithms":
        if BASELINE not in self.algorithms:
            raise ValueError(
                f"'algorithms' has no {BASELINE}, beside which the others are drawn: add '{BASELINE}: {{}}'"
            )
        return self

    def cells(self) -> Iterator[Cell]:
        """As `Grid.cells`: one per algorithm."""
        for algorithm, own in self.algorithms.items():
            yield self.cell({"algorithm": algorithm}, {**self.base, **own, "algorithm": algorithm})

    @property
    def columns(self) -> tuple[str, ...]:
        """As `Grid.columns`: with a column for the clients that never trained, if there are any."""
        *first, last = self.COLUMNS
        return (*first, *(["held_out_accuracy"] if self.data.held_out_clients else []), last)

    @property
    def held_out_clients(self) -> int:
        """As `Grid.held_out_clients`."""
        return self.data.held_out_clients

    def images(self) -> tuple[Labelled, Labelled]:
        """As `Grid.images`."""
        return first_images(self.data.samples, self.data.test)

    def clients(self, labels: np.ndarray) -> list[np.ndarray]:
        """As `Grid.clients`: by Dirichlet label skew. Raises PipelineError if ``min_size`` cannot be met."""
        data = self.data
        params = dirichlet.Params(alpha=data.alpha, min_size=data.min_size, self_balancing=False)
        rng = generator(self.base.get("seed", 0), Purpose.PARTITION)
        owner = dirichlet.assign(labels, np.zeros(data.clients, np.int64), params, rng)
        return [np.flatnonzero(owner == client) for client in range(data.clients)]

    def rows(self, cell: Cell, rounds: Sequence[RoundRecord]) -> Rows:
        """As `Grid.rows`: the rounds that were evaluated, with the clients' updates that the server had got by then.

        Where one learner has all samples, the updates are those of which it saw the samples.
        """
        pooled = ALGORITHMS.of(cell.labels["algorithm"]).POOLS_SAMPLES
        cohort = self.data.clients if (number := cell.changes.get("clients_per_round", "all")) == "all" else number
        updates = np.cumsum([cohort if pooled else record.clients for record in rounds]).tolist()
        return [
            {
                "round": record.round,
                "updates": total,
                "test_accuracy": record.test_accuracy,
                "held_out_accuracy": record.others.get("held_out_accuracy"),
            }
            for record, total in zip(rounds, updates, strict=True)
            if record.test_accuracy is not None
        ]

    def plot(self, table: pd.DataFrame, path: Path) -> None:
        """Draws a panel per algorithm: test accuracy over updates, with the baseline in grey behind it.

        A round of cohorts has as many updates as clients; one of an asynchronous algorithm has fewer.
        """
        curves = {str(name): rows for name, rows in table.groupby("algorithm", sort=False)}
        others = [name for name in curves if name != BASELINE] or [BASELINE]
        across = min(_ACROSS, len(others))
        down = math.ceil(len(others) / across)
        with picture(path, 1 + 2.4 * across, 0.9 + 1.7 * down) as figure:
            panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
            for axes in panels[len(others) :]:
                axes.set_axis_off()
            for axes, name in zip(panels, others, strict=False):
                behind, curve = curves[BASELINE], curves[name]
                axes.plot(behind["updates"], behind["test_accuracy"], color="0.65", linewidth=2.5, label=BASELINE)
                axes.plot(curve["updates"], curve["test_accuracy"], color="C0", linewidth=1.3)
                axes.set_ylim(0, 1)
                axes.set_title(f"{name}\n{self.notes.get(name, '')}".strip(), fontsize=9)
            for axes in panels[max(0, len(others) - across) : len(others)]:
                axes.tick_params(labelbottom=True)
            panels[0].legend(loc="lower right", fontsize=8)
            figure.supxlabel("clients' updates so far")
            figure.supylabel("test accuracy")
            figure.suptitle(f"{self.data.clients} clients, Dirichlet {self.data.alpha}")
