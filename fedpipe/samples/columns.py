"""The columns of a table: how a row becomes a sample, in the download stage and wherever a model is used later.

A sample is float32 [values]: a value for each column of numbers, then for each column of categories a value for each
category, 1 for the row's category and 0 for the others (all 0 for a category that the training rows did not have).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from fedpipe.errors import PipelineError

if TYPE_CHECKING:
    import pandas as pd

_MOST_NAMES = 5  # in a message


class NumberColumn(BaseModel):
    """A column of numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    fill: float | None = None  # in place of a missing value; None: none may be missing
    mean: float = 0.0  # subtracted, and
    deviation: Annotated[float, Field(gt=0)] = 1.0  # divided by


class CategoryColumn(BaseModel):
    """A column of categories, as text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    categories: tuple[str, ...]  # of the training rows, sorted
    fill: str | None = None  # in place of a missing value; None: none may be missing


class Columns(BaseModel):
    """All columns of a table that a model needs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    numbers: tuple[NumberColumn, ...] = ()
    categories: tuple[CategoryColumn, ...] = ()
    label: tuple[str, ...]
    classes: tuple[str, ...] | None = None  # the label's values as text, by number of class; None: labels are numbers
    client: str | None = None  # the column that names a row's client

    @property
    def names(self) -> list[str]:
        """The columns that make a sample."""
        return [*(column.name for column in self.numbers), *(column.name for column in self.categories)]

    @property
    def width(self) -> int:
        """Values of a sample."""
        return len(self.numbers) + sum(len(column.categories) for column in self.categories)

    def samples(self, table: "pd.DataFrame", called: str) -> np.ndarray:
        """Samples float32 [rows, width].

        Args:
          table: Rows with at least these columns; others are not looked at.
          called: What messages call the table.

        Raises:
          PipelineError: A column is missing, or a value is missing or is no number; the message names the column.
        """
        require_columns(table, self.names, called)
        samples = np.zeros((len(table), self.width), np.float32)
        for place, column in enumerate(self.numbers):
            values = numbers(table[column.name], column.name, called)
            values = _filled(values, np.isnan(values), column.fill, column.name, called)
            samples[:, place] = (values - column.mean) / column.deviation
        place = len(self.numbers)
        for category in self.categories:
            texts = as_text(table[category.name])
            texts = _filled(texts, texts == "", category.fill, category.name, called)
            for value in category.categories:
                samples[:, place] = texts == value
                place += 1
        return samples

    def labels(self, table: "pd.DataFrame", called: str) -> np.ndarray:
        """Labels: uint8 [rows], or float32 [rows, numbers].

        Raises:
          PipelineError: A label is missing, is no number, or is a class that is not among `classes`.
        """
        require_columns(table, self.label, called)
        if self.classes is None:
            values = [numbers(table[name], name, called) for name in self.label]
            for name, column in zip(self.label, values, strict=True):
                _filled(column, np.isnan(column), None, name, called)
            return np.stack(values, axis=1).astype(np.float32)
        (name,) = self.label
        texts = as_text(table[name])
        _filled(texts, texts == "", None, name, called)
        known = {value: number for number, value in enumerate(self.classes)}
        if unknown := sorted(set(texts) - set(known)):
            raise PipelineError(
                f"{called}: column '{name}' has the label '{unknown[0]}', which no training row has; the labels are "
                f"{', '.join(self.classes[:_MOST_NAMES])}{', ...' if len(self.classes) > _MOST_NAMES else ''}"
            )
        return np.array([known[text] for text in texts], np.uint8)

    def clients(self, table: "pd.DataFrame", called: str) -> np.ndarray | None:
        """The name of each row's client, text [rows]; None if the table names none.

        Raises:
          PipelineError: A name is missing.
        """
        if self.client is None:
            return None
        require_columns(table, [self.client], called)
        texts = as_text(table[self.client])
        _filled(texts, texts == "", None, self.client, called)
        return texts.astype(str)

    @property
    def texts(self) -> list[str]:
        """Columns that are read as text."""
        label = [] if self.classes is None else list(self.label)
        client = [] if self.client is None else [self.client]
        return [*(column.name for column in self.categories), *label, *client]


def require_columns(table: "pd.DataFrame", names: Sequence[str], called: str) -> None:
    """Raises PipelineError if ``table`` lacks one of the columns."""
    if missing := [name for name in names if name not in table.columns]:
        has = ", ".join(map(str, table.columns[: 2 * _MOST_NAMES]))
        raise PipelineError(f"{called} has no column {', '.join(missing[:_MOST_NAMES])}; it has {has or 'none'}")


def numbers(column: "pd.Series[float]", name: str, called: str) -> np.ndarray:
    """The column as float64 [rows], NaN where a value is missing.

    Raises:
      PipelineError: A value is no number, or is infinite.
    """
    import pandas as pd

    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    wrong = np.isinf(values)
    if np.isnan(values).any():
        missing = column.isna().to_numpy() | column.map(lambda value: str(value).strip() == "").to_numpy(bool)
        wrong |= np.isnan(values) & ~missing
    if wrong.any():
        row = int(np.argmax(wrong))
        raise PipelineError(
            f"{called}: column '{name}' has '{column.iloc[row]}' in row {row}, which is no finite number: name the "
            "column among the categories, or mend the table"
        )
    return values


def as_text(column: "pd.Series[str]") -> np.ndarray:
    """The column as text [rows], '' where a value is missing; a whole number has no decimal point."""
    missing = column.isna().to_numpy()
    if column.dtype.kind == "f":
        values = np.where(missing, 0.0, column.to_numpy(np.float64))
        texts = np.array([str(int(value)) if value.is_integer() else repr(value) for value in values.tolist()], object)
    else:
        texts = np.array([str(value) for value in column.tolist()], object)
    texts[missing] = ""
    return texts


def _filled(values: np.ndarray, missing: np.ndarray, fill: float | str | None, name: str, called: str) -> np.ndarray:
    if not missing.any():
        return values
    if fill is None:
        raise PipelineError(
            f"{called}: column '{name}' has no value in {int(missing.sum())} of {len(missing)} rows (the first is row "
            f"{int(np.argmax(missing))}): fill them ('download.table.missing', docs/tabular-data.md), or leave the "
            "rows out"
        )
    return np.where(missing, fill, values)
