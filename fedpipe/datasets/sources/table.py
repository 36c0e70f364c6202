"""Dataset ``table``: a CSV or Parquet file as samples, labels and clients."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from fedpipe.config import Download
from fedpipe.config.download import Constants
from fedpipe.config.table import Table
from fedpipe.datasets.sources.agreed import agreed_columns, agreed_description
from fedpipe.datasets.sources.arrays import numbers_of, write_samples
from fedpipe.datasets.sources.fetch import say
from fedpipe.datasets.sources.pinned_file import called, pinned
from fedpipe.errors import PipelineError
from fedpipe.samples.columns import CategoryColumn, Columns, NumberColumn, as_text, numbers, require_columns
from fedpipe.samples.kind import Format
from fedpipe.samples.moments import mean_and_deviation, median
from fedpipe.samples.rows import read_rows
from fedpipe.seeds import Purpose, generator

if TYPE_CHECKING:
    import pandas as pd

CLIENTS_FILE = "train-clients.csv"
_MOST_CLASSES = 256
_MOST_CATEGORIES = 1000  # of a column: a name or an address is no category

Standardise = Literal["training"] | Constants | None


def write_table(table: Table, params: Download, folder: Path) -> None:
    """Writes the samples of a table, and their description, into ``folder``.

    What is taken from the rows (categories, fillings, means and deviations) is taken from the training rows, or from
    the description that ``download.agreed`` names.

    Raises:
      PipelineError: The file cannot be had or read, or a column is not as the section says; the message names it.
    """
    import pandas as pd

    what = called("table.file", table.file)
    with pinned(table.file, what, params, folder) as path:
        rows = read_rows(path, what, [*table.other_roles] if table.labels == "classes" else _texts(table))
    names = _number_columns(table, rows)
    roles = [*names, *table.other_roles]
    require_columns(rows, roles, what)
    if unknown := sorted(set(table.missing) - {*names, *table.categories}):
        raise PipelineError(
            f"params.yaml: 'download.table.missing' names '{unknown[0]}', which is no column of a sample"
        )
    is_test = _test_rows(table, rows, what)
    train, test = rows[~is_test], rows[is_test]
    if train.empty or test.empty:
        raise PipelineError(f"{what} has {len(train)} training rows and {len(test)} test rows: both are needed")
    described = agreed_description(params, folder)
    if described is None:
        columns = _columns(table, names, params.standardise, train, what)
    else:
        columns = agreed_columns(described, table, names, what)
    of_train, of_test = ((columns.samples(part, what), columns.labels(part, what)) for part in (train, test))
    for name in [name for name in names if train[name].nunique() == 1]:
        say(f"{table.name}: column '{name}' has one value in all training rows")
    label_numbers = None
    if columns.classes is None:
        label_numbers = numbers_of(of_train[1]) if described is None else described.format.numbers
    made = Format(samples="float32", columns=columns, numbers=label_numbers)
    classes = 0 if columns.classes is None else max(2, len(columns.classes))
    if (names_of_clients := columns.clients(train, what)) is not None:
        owners = pd.DataFrame({"sample": np.arange(len(train)), "client": names_of_clients})
        owners.to_csv(folder / CLIENTS_FILE, index=False)
    clients = None if table.client is None else CLIENTS_FILE
    write_samples(folder, table.name, classes, made, of_train, of_test, clients)


def _texts(table: Table) -> list[str]:
    return [name for name in table.other_roles if name not in table.label_columns]


def _number_columns(table: Table, rows: "pd.DataFrame") -> list[str]:
    if table.numbers != "others":
        return table.numbers
    names = [str(name) for name in rows.columns if name not in table.other_roles]
    if not names and not table.categories:
        raise PipelineError("params.yaml: 'download.table.numbers' is others, and all columns have other roles")
    return names


def _test_rows(table: Table, rows: "pd.DataFrame", what: str) -> np.ndarray:
    """Which rows are test rows: bool [rows]."""
    if isinstance(table.split, str):
        texts = as_text(rows[table.split])
        if wrong := sorted(set(texts) - {"train", "test"}):
            raise PipelineError(f"{what}: column '{table.split}' has '{wrong[0]}'; each row says train or test there")
        return np.asarray(texts == "test", bool)
    drawn = generator(table.split.seed, Purpose.TEST_ROWS).permutation(len(rows))
    is_test = np.zeros(len(rows), bool)
    is_test[drawn[: max(1, int(table.split.share * len(rows)))]] = True
    return is_test


def _columns(table: Table, names: list[str], standardise: Standardise, train: "pd.DataFrame", what: str) -> Columns:
    constants = _constants(standardise, names)
    number_columns = []
    for name in names:
        values = numbers(train[name], name, what)
        fill = _number_filling(table, name, values, what)
        values = np.where(np.isnan(values), np.nan if fill is None else fill, values)
        mean, deviation = 0.0, 1.0
        if standardise == "training" and not np.isnan(values).any():  # else `Columns.samples` names the column
            mean, deviation = mean_and_deviation(values)
        elif constants is not None:
            mean, deviation = constants[name]
        number_columns.append(NumberColumn(name=name, fill=fill, mean=mean, deviation=deviation))
    categories = tuple(_category(table, name, as_text(train[name]), what) for name in table.categories)
    label = tuple(table.label_columns)
    classes = None if table.labels == "numbers" else _classes(train[label[0]], label[0], what)
    return Columns(
        numbers=tuple(number_columns), categories=categories, label=label, classes=classes, client=table.client
    )


def _constants(standardise: Standardise, names: list[str]) -> dict[str, tuple[float, float]] | None:
    if not isinstance(standardise, Constants):
        return None
    means, deviations = standardise.means, standardise.deviations
    if isinstance(means, list) or isinstance(deviations, list) or {*means} != {*names} or {*deviations} != {*names}:
        raise PipelineError(
            "params.yaml: 'download.standardise' must have a mean and a deviation for each column of "
            "'download.table.numbers', by its name"
        )
    return {name: (means[name], deviations[name]) for name in names}


def _number_filling(table: Table, name: str, values: np.ndarray, what: str) -> float | None:
    wish = table.missing.get(name)
    if wish is None or not isinstance(wish, str):
        return wish
    present = values[~np.isnan(values)]
    if not len(present):
        raise PipelineError(f"{what}: column '{name}' has no value in any training row, so no {wish}")
    if wish == "mean":
        return mean_and_deviation(present)[0]
    if wish == "median":
        return median(present)
    raise PipelineError(f"params.yaml: 'download.table.missing.{name}' is {wish}; allowed: mean, median, or a number")


def _category(table: Table, name: str, texts: np.ndarray, what: str) -> CategoryColumn:
    wish = table.missing.get(name)
    values, counts = np.unique(texts[texts != ""].astype(str), return_counts=True)
    fill = None if wish is None else str(wish)
    if wish == "most_frequent":
        if not len(values):
            raise PipelineError(f"{what}: column '{name}' has no value in any training row, so none is most frequent")
        fill = str(values[np.argmax(counts)])
    categories = sorted({*values.tolist(), *([fill] if fill is not None and (texts == "").any() else [])})
    if len(categories) > _MOST_CATEGORIES:
        raise PipelineError(
            f"{what}: column '{name}' has {len(categories):,} categories; at most {_MOST_CATEGORIES:,} are possible, "
            "so group them, or leave the column out"
        )
    return CategoryColumn(name=name, categories=tuple(categories), fill=fill)


def _classes(column: "pd.Series[str]", name: str, what: str) -> tuple[str, ...]:
    """The label's values: whole numbers in their order, else as sorted text."""
    values = sorted({str(text) for text in as_text(column) if text})
    if all(value.isdecimal() and value.isascii() for value in values):
        values.sort(key=int)
    if len(values) < 2 or len(values) > _MOST_CLASSES:
        raise PipelineError(
            f"{what}: column '{name}' has {len(values):,} different labels in the training rows; classes are 2 to "
            f"{_MOST_CLASSES} (set 'download.table.labels' to numbers if they are numbers)"
        )
    return tuple(values)
