"""A table as its YAML file defines it, checked as a whole before anything runs (docs/tables.md).

A cell is params.yaml of the last commit, with ``base`` laid over it, then one value of each axis, then a seed.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from dvc.utils.serialize import dumps_yaml, parse_yaml_for_update
from pydantic import Field, ValidationError, model_validator

from fedpipe import params
from fedpipe.config import Partition, Train, parse_text, read_yaml
from fedpipe.config.mistakes import mistakes
from fedpipe.config.section import Section, Seed
from fedpipe.contracts.aggregator import has_secret_noise
from fedpipe.contracts.partition import PARTITIONERS
from fedpipe.errors import PipelineError
from fedpipe.spelling import did_you_mean
from layout import PARAMS
from operations.table.axes import Overlay, overlays_of

TABLES = Path("operations/table/tables")
_NAME = re.compile(r"[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?", re.ASCII)  # names are parts of file names and of git refs
Measure = Literal["rounds_to_target", "test_accuracy", "best_test_accuracy", "held_out_accuracy"]
# Other columns of the results.
_RESERVED = {
    *("cell", "seed", "value", "outcome", "rounds", "rounds_to_target", "test_accuracy", "best_test_accuracy"),
    *("validation_accuracy", "best_validation_accuracy"),
    *("seconds", "weights_sha256", "commit", "machine"),
}


class Published(Section):
    """Published figures, each for the cells that have these values of the axes (not of the grid)."""

    name: str
    source: str
    link: str = ""
    note: str = ""
    measure: Measure | None = None  # the table's if none
    figures: Annotated[list[dict[str, Any]], Field(min_length=1)]


class Definition(Section):
    """The content of a table's file."""

    title: str
    text: str = ""
    deviations: list[str] = Field(default_factory=list)  # from the published setting, and why
    measure: Measure
    base: Overlay = Field(default_factory=dict)
    axes: dict[str, dict[str, Overlay]]  # axis -> value -> its overlay of params.yaml
    grid: list[str] = Field(default_factory=list)  # axes of which the best value counts
    seeds: Annotated[list[Seed], Field(min_length=1)]
    published: list[Published] = Field(default_factory=list)

    @model_validator(mode="after")
    def _names_fit(self) -> "Definition":
        for name in self.grid:
            if name not in self.axes:
                raise ValueError(f"'grid' names {name}, which is no axis; the axes are {', '.join(self.axes)}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"'seeds' has a seed twice: {', '.join(map(str, self.seeds))}")
        for name, axis in self.axes.items():
            if name in _RESERVED:
                raise ValueError(f"'axes.{name}' has a name that the results need themselves: call it otherwise")
            if not axis:
                raise ValueError(f"'axes.{name}' has no value")
            for label in (name, *axis):
                if not _NAME.fullmatch(label) or ".." in label:
                    raise ValueError(
                        f"'axes.{name}' has the name {label!r}, which is part of file names: use letters, digits, '.', "
                        "'-' and '_', with a letter or digit at both ends"
                    )
        for published in self.published:
            for figure in published.figures:
                self._check_figure(published.name, figure)
        return self

    def _check_figure(self, name: str, figure: dict[str, Any]) -> None:
        axes = self.group_axes
        if set(figure) != {*axes, "value"}:
            raise ValueError(
                f"a figure of 'published' {name} has the keys {', '.join(figure)}: it must have "
                f"{', '.join([*axes, 'value'])}"
            )
        for axis in axes:
            if str(figure[axis]) not in self.axes[axis]:
                raise ValueError(
                    f"a figure of 'published' {name} has {axis} {figure[axis]}, and the axis has "
                    f"{', '.join(self.axes[axis])}"
                )
        if isinstance(figure["value"], bool) or not isinstance(figure["value"], int | float):
            raise ValueError(f"a figure of 'published' {name} has the value {figure['value']!r}, which is no number")

    @property
    def measures(self) -> list[Measure]:
        """The table's measure, then others with which published figures are compared."""
        return list(dict.fromkeys([self.measure, *(each.measure or self.measure for each in self.published)]))

    @property
    def group_axes(self) -> list[str]:
        """The axes that are not of the grid."""
        return [name for name in self.axes if name not in self.grid]


@dataclass(frozen=True)
class Cell:
    """One training of a table."""

    table: str
    labels: Mapping[str, str]  # axis -> value, as text
    seed: int
    overlay: Overlay = field(compare=False)

    @property
    def name(self) -> str:
        """What tells it from the table's others: ``iid_0.1_seed2024``."""
        return "_".join([*self.labels.values(), f"seed{self.seed}"])

    def group(self, axes: list[str]) -> tuple[str, ...]:
        """Its values of ``axes``."""
        return tuple(self.labels[axis] for axis in axes)


@dataclass(frozen=True)
class Table:
    """A table, its cells in order, and, if it was checked, what each is run with."""

    name: str
    definition: Definition
    cells: tuple[Cell, ...]
    texts: Mapping[str, str] = field(default_factory=dict)  # params.yaml by cell
    params: Mapping[str, dict[str, Any]] = field(default_factory=dict)  # what decides its result, as JSON has it

    def choose(self, pattern: str) -> list[Cell]:
        """The cells whose names match, as a shell would match file names.

        Raises:
          PipelineError: There is none.
        """
        matching = [cell for cell in self.cells if fnmatchcase(cell.name, pattern)]
        if not matching:
            raise PipelineError(
                f"table {self.name} has no cell '{pattern}'; its cells are {', '.join(c.name for c in self.cells)}"
            )
        return matching


def names(folder: Path = TABLES) -> list[str]:
    """The tables that there are."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def read(name: str, folder: Path = TABLES) -> Table:
    """Reads a table, without looking at the params of its cells.

    Args:
      name: Of its file, without ``.yaml``.
      folder: Where tables are.

    Raises:
      PipelineError: The table does not exist, or its file is invalid.
    """
    path = folder / f"{name}.yaml"
    if name not in names(folder):
        raise PipelineError(
            f"there is no table '{name}' in {folder}; there are {', '.join(names(folder)) or 'none'}"
            + did_you_mean(name, names(folder))
        )
    definition = _definition(path)
    cells = tuple(_cells(name, definition))
    if len({cell.name for cell in cells}) < len(cells):
        raise PipelineError(f"{path}: two cells have the same name; call the values of an axis otherwise")
    return Table(name, definition, cells)


def load(name: str, base: str, folder: Path = TABLES) -> Table:
    """Reads a table and checks all its cells.

    Args:
      name: As `read`.
      base: The text of the params.yaml that cells are made from.
      folder: As `read`.

    Raises:
      PipelineError: As `read`, or the params of a cell are not allowed; the message names the first such cell.
    """
    table, path = read(name, folder), folder / f"{name}.yaml"
    content = parse_yaml_for_update(base, str(PARAMS))  # DVC's reader and writer, which keep comments
    texts = {cell.name: _text(deepcopy(content), cell.overlay) for cell in table.cells}
    checked = {cell.name: _validate(path, table.definition, cell, texts[cell.name]) for cell in table.cells}
    return replace(table, texts=texts, params=checked)


def _definition(path: Path) -> Definition:
    content = read_yaml(path)
    try:
        axes = content.get("axes")
        if isinstance(axes, dict):
            content["axes"] = {str(name): overlays_of(str(name), axis) for name, axis in axes.items()}
        return Definition.model_validate(content)
    except ValidationError as error:
        raise PipelineError(f"{path}: {'; '.join(mistakes(error, Definition))}") from None
    except ValueError as error:
        raise PipelineError(f"{path}: {error}") from None


def _cells(name: str, definition: Definition) -> Iterator[Cell]:
    for chosen in itertools.product(*(axis.items() for axis in definition.axes.values())):
        labels = dict(zip(definition.axes, (label for label, _ in chosen), strict=True))
        for seed in definition.seeds:
            overlay = definition.base
            for _, changes in chosen:
                overlay = merged(overlay, changes)
            overlay = merged(overlay, {"partition": {"seed": seed}, "train": {"seed": seed}})
            yield Cell(name, labels, seed, overlay)


def merged(tree: Any, changes: Any) -> Any:
    """``tree`` with ``changes`` laid over it, mapping by mapping."""
    if not isinstance(tree, Mapping) or not isinstance(changes, Mapping):
        return changes
    return {**tree, **{key: merged(tree.get(key), value) for key, value in changes.items()}}


def _text(content: Any, overlay: Overlay) -> str:
    """params.yaml with the overlay, comments and all."""
    _lay(content, overlay)
    return str(dumps_yaml(content))


def _lay(content: Any, changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(content.get(key), Mapping):
            _lay(content[key], value)
        else:
            content[key] = value


def _validate(path: Path, definition: Definition, cell: Cell, text: str) -> dict[str, Any]:
    """The params of a cell that decide its result.

    Raises:
      PipelineError: They are not allowed.
    """
    source = f"{path}, cell {cell.name}"
    content = parse_text(text, source)
    sections = params.sections_of(content, source)
    partition, train = cast(Partition, sections[Partition]), cast(Train, sections[Train])
    if has_secret_noise(train):
        raise PipelineError(f"{source}: 'train.privacy.noise' must be seeded, since nobody could verify a secret cell")
    if PARTITIONERS.of(partition.scheme).AT_SITES:
        raise PipelineError(
            f"{source}: 'partition.scheme' is {partition.scheme}, and a table trains on samples that are here: give "
            "its 'base' another scheme, with 'partition.sites' for the bits of a federation"
        )
    if train.init != "fresh":
        raise PipelineError(f"{source}: 'train.init' must be fresh, since a champion is known on this machine only")
    if definition.measure == "rounds_to_target" and train.stop_at.accuracy is None:
        raise PipelineError(
            f"{source}: 'train.stop_at.accuracy' must be the target, since 'measure' is rounds_to_target"
        )
    if "best_test_accuracy" in definition.measures and not train.evaluate_every:
        raise PipelineError(f"{source}: 'train.evaluate_every' must not be 0, since 'measure' is best_test_accuracy")
    if "best_test_accuracy" in definition.measures and train.selection == "validation" and not partition.validation:
        raise PipelineError(
            f"{source}: 'measure' is best_test_accuracy, and 'partition.validation' is 0: set it to the number of "
            "samples by which the best round is chosen, or 'train.selection' to test to choose it by the test images"
        )
    used = {
        "download": {key: content["download"].get(key) for key in ("dataset", "idx")},
        "partition": params.used(partition),
        "train": params.used(train),
    }
    return dict(json.loads(json.dumps(used, default=str)))
