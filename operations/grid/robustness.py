"""Attacks, defences and shares of attackers: a heat map of the accuracies after the last round."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field

from fedpipe.baseline import RECIPE
from fedpipe.config.section import Count, Section
from fedpipe.datasets.raw import Labelled
from fedpipe.figures import picture
from fedpipe.runtime.records import RoundRecord
from fedpipe.seeds import Purpose, generator
from operations.grid.cells import Cell, Grid, Params, Rows, first_images

NO_ATTACK = "no_attack"


class Data(Section):
    """How many clients there are, samples of each, and test images."""

    clients: Count
    samples: Count
    test: Count


class Robustness(Grid):
    """The file as it is written."""

    COLUMNS = ("cell", "attack", "defence", "share", "test_accuracy", "test_backdoor", "weights_sha256", "refused")

    data: Data
    shares: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1)]
    attacks: Annotated[dict[str, Params], Field(min_length=1)]
    defences: Annotated[dict[str, Params], Field(min_length=1)]

    def cells(self) -> Iterator[Cell]:
        """All cells in order: for each defence one without an attack, then attack by attack and share by share."""
        for defence, section in self.defences.items():
            yield self._cell(NO_ATTACK, {}, defence, section, 0.0)
            for attack, params in self.attacks.items():
                for share in self.shares:
                    yield self._cell(attack, params, defence, section, share)

    def _cell(self, attack: str, params: Params, defence: str, section: Params, share: float) -> Cell:
        # Without an attack, a defence still assumes as many attackers as the smallest share has.
        assumed = share or min(self.shares)
        known = {"$share": assumed, "$attackers": round(assumed * self.data.clients)}
        filled = {name: known.get(value, value) if isinstance(value, str) else value for name, value in section.items()}
        changes = {
            "clients_per_round": self.data.clients,
            **self.base,
            "attack": attack,
            attack: params,
            "attackers": share,
            "aggregator": defence,
            defence: filled,
            "evaluate_every": self.base.get("evaluate_every", self.base.get("rounds", 10)),  # the last round is enough
        }
        return self.cell({"attack": attack, "defence": defence, "share": share}, changes)

    def images(self) -> tuple[Labelled, Labelled]:
        """As `Grid.images`: those of all clients, and the test images."""
        return first_images(self.data.clients * self.data.samples, self.data.test)

    def clients(self, labels: np.ndarray) -> list[np.ndarray]:
        """As `Grid.clients`: IID."""
        order = generator(self.base.get("seed", RECIPE["seed"]), Purpose.PARTITION).permutation(len(labels))
        return np.split(order, self.data.clients)

    def rows(self, cell: Cell, rounds: Sequence[RoundRecord]) -> Rows:
        """As `Grid.rows`: the last round."""
        last = rounds[-1]
        return [{"test_accuracy": last.test_accuracy, "test_backdoor": last.others.get("test_backdoor")}]

    def plot(self, table: pd.DataFrame, path: Path) -> None:
        """Draws a panel per share of attackers: a row per attack, and for the backdoor one of its success rate.

        Accuracies have one colour scale, success rates another. A cell that was refused or has not been run is grey.
        """
        cells = {(row["attack"], row["defence"], row["share"]): row for row in table.to_dict("records")}
        rows = [(NO_ATTACK, "test_accuracy"), *((name, "test_accuracy") for name in self.attacks)]
        rows += [("backdoor", "test_backdoor")] * ("backdoor" in self.attacks)
        names = [f"{attack}\nsuccess rate" if column == "test_backdoor" else attack for attack, column in rows]
        is_rate = np.array([column == "test_backdoor" for _, column in rows])
        defences, panels = list(self.defences), len(self.shares)
        with picture(path, 2.1 + 0.68 * len(defences), 1.2 + panels * (0.4 + 0.36 * len(rows))) as figure:
            for axes, share in zip(np.atleast_1d(figure.subplots(panels, 1, sharex=True)), self.shares, strict=True):
                values = np.full((len(rows), len(defences)), np.nan)
                for (y, (attack, column)), (x, defence) in (
                    (row, defence) for row in enumerate(rows) for defence in enumerate(defences)
                ):
                    cell = cells.get((attack, defence, 0.0 if attack == NO_ATTACK else share), {})
                    values[y, x] = cell.get(column, np.nan)
                _draw_panel(axes, values, is_rate)
                axes.set_xticks(range(len(defences)), defences, rotation=45, ha="right")
                axes.set_yticks(range(len(rows)), names)
                axes.set_title(f"{share:.0%} attackers", fontsize=10)
            figure.suptitle(
                "Test accuracy after the last round (green is high)\nLast row: success rate of the backdoor (red)"
            )


def _draw_panel(axes: Any, values: np.ndarray, is_rate: np.ndarray) -> None:
    """Draws ``values`` [rows, columns] as numbers on colours; ``is_rate`` [rows]: which rows are success rates."""
    axes.set_facecolor("0.85")
    for of_rates, colours in ((False, "viridis"), (True, "Reds")):
        shown = np.where((is_rate == of_rates)[:, None] & ~np.isnan(values), values, np.nan)
        axes.imshow(shown, vmin=0, vmax=1, cmap=colours, aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        text = "-" if np.isnan(value) else f"{value:.2f}"
        is_dark = value > 0.6 if is_rate[y] else value < 0.6
        axes.text(x, y, text, ha="center", va="center", color="white" if is_dark else "black", fontsize=9)
    axes.grid(False)
