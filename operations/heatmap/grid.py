"""A grid of attacks, defences and shares of attackers, from a YAML file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from fedpipe.baseline import train_settings
from fedpipe.config.section import Count, Section
from fedpipe.config.train import Train
from operations.cells import key_of, read_grid

NO_ATTACK = "no_attack"
Params = dict[str, Any]


class Data(Section):
    """How many clients there are, samples of each, and test images."""

    clients: Count
    samples: Count
    test: Count


class Grid(Section):
    """The file as it is written."""

    data: Data
    base: Params
    shares: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1)]
    attacks: Annotated[dict[str, Params], Field(min_length=1)]
    defences: Annotated[dict[str, Params], Field(min_length=1)]


@dataclass(frozen=True)
class Cell:
    """One training."""

    attack: str
    defence: str
    share: float
    changes: Params  # of section train
    key: str  # of the row in the table: other values of the grid give another key

    def settings(self) -> Train:
        """Section train. Raises PipelineError if the aggregator does not go with the cell."""
        return train_settings(**self.changes)


def read(path: Path) -> Grid:
    """Reads a grid.

    Raises:
      PipelineError: The file is missing or is no grid; the message names the first key that is wrong.
    """
    return read_grid(Grid, path, Path("operations/heatmap/robustness.yaml"))


def cells(grid: Grid) -> Iterator[Cell]:
    """All cells in order: for each defence one without an attack, then attack by attack and share by share."""
    for defence, section in grid.defences.items():
        yield _cell(grid, NO_ATTACK, {}, defence, section, 0.0)
        for attack, params in grid.attacks.items():
            for share in grid.shares:
                yield _cell(grid, attack, params, defence, section, share)


def _cell(grid: Grid, attack: str, params: Params, defence: str, section: Params, share: float) -> Cell:
    # Without an attack, a defence still assumes as many attackers as the smallest share has.
    assumed = share or min(grid.shares)
    known = {"$share": assumed, "$attackers": round(assumed * grid.data.clients)}
    filled = {name: known.get(value, value) if isinstance(value, str) else value for name, value in section.items()}
    changes = {
        "clients_per_round": grid.data.clients,
        **grid.base,
        "attack": attack,
        attack: params,
        "attackers": share,
        "aggregator": defence,
        defence: filled,
        "evaluate_every": grid.base.get("evaluate_every", grid.base.get("rounds", 10)),  # the last round is enough
    }
    return Cell(attack, defence, share, changes, key_of(grid.data.model_dump(), changes))
