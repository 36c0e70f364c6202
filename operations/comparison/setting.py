"""What is compared, from a YAML file: the data, and the training of each algorithm."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from fedpipe.baseline import train_settings
from fedpipe.config.section import Concentration, Count, Section, Size
from fedpipe.config.train import Train
from fedpipe.partitioners import dirichlet
from fedpipe.seeds import Purpose, generator
from operations.cells import key_of, read_grid, require_repeatable

BASELINE = "fed_avg"
Params = dict[str, Any]


class Data(Section):
    """How many clients there are, how unlike they are, and training and test images."""

    clients: Count
    alpha: Concentration
    min_size: Size
    samples: Count
    test: Count


class Setting(Section):
    """The file as it is written."""

    data: Data
    base: Params
    algorithms: Annotated[dict[str, Params], Field(min_length=1)]
    notes: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_what_it_compares_with(self) -> "Setting":
        if BASELINE not in self.algorithms:
            raise ValueError(
                f"'algorithms' has no {BASELINE}, beside which the others are drawn: add '{BASELINE}: {{}}'"
            )
        return self


@dataclass(frozen=True)
class Cell:
    """One training."""

    algorithm: str
    settings: Train
    key: str  # of the rows in the table: another setting gives another key


def read(path: Path) -> Setting:
    """Reads a setting.

    Raises:
      PipelineError: The file is missing or is no setting; the message names the first key that is wrong.
    """
    return read_grid(Setting, path, Path("operations/comparison/algorithms.yaml"))


def cells(setting: Setting) -> Iterator[Cell]:
    """The trainings, in the order of the file.

    Raises:
      PipelineError: An algorithm does not go with its settings; the message says what would.
    """
    for algorithm, own in setting.algorithms.items():
        changes = {**setting.base, **own, "algorithm": algorithm}
        settings = train_settings(**changes)
        require_repeatable(settings)
        yield Cell(algorithm, settings, key_of(setting.data.model_dump(), changes))


def clients(setting: Setting, labels: np.ndarray) -> list[np.ndarray]:
    """The indices of each client's samples, the same for all algorithms.

    Raises:
      PipelineError: ``min_size`` cannot be met.
    """
    data = setting.data
    params = dirichlet.Params(alpha=data.alpha, min_size=data.min_size, self_balancing=False)
    rng = generator(setting.base.get("seed", 0), Purpose.PARTITION)
    owner = dirichlet.assign(labels, np.zeros(data.clients, np.int64), params, rng)
    return [np.flatnonzero(owner == client) for client in range(data.clients)]
