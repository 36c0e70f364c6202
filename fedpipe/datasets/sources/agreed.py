"""A description that sites of a federation share: `dataset.json` of the coordinator, applied to other samples.

Categories, classes, fillings, means and deviations are learnt from training rows otherwise, and those of two sites
differ.
"""

from pathlib import Path

from pydantic import ValidationError

from fedpipe.config import Download
from fedpipe.config.table import Table
from fedpipe.datasets.raw import RawDataset
from fedpipe.datasets.sources.pinned_file import called, pinned
from fedpipe.errors import PipelineError
from fedpipe.samples.columns import Columns


def agreed_description(params: Download, folder: Path) -> RawDataset | None:
    """The description that ``download.agreed`` names; None without the key.

    Args:
      params: Section download.
      folder: For a copy, as of `pinned`.

    Raises:
      PipelineError: The file cannot be had, is no description, or is one of another data set.
    """
    if params.agreed is None:
        return None
    what = called("agreed", params.agreed)
    with pinned(params.agreed, what, params, folder) as path:
        try:
            described = RawDataset.model_validate_json(path.read_bytes())
        except ValidationError:
            raise PipelineError(
                f"{what} is no description of a data set: take data/raw/dataset.json of the coordinator"
            ) from None
    if described.name != params.name:
        raise PipelineError(
            f"{what} describes {described.name}, and this data set is {params.name}: sites give it the same name"
        )
    return described


def agreed_columns(described: RawDataset, table: Table, numbers: list[str], what: str) -> Columns:
    """The columns of a table, as described.

    Args:
      described: The description.
      table: The roles of the table's columns.
      numbers: The columns that are numbers.
      what: What messages call the table.

    Raises:
      PipelineError: The table has other columns.
    """
    columns = described.format.columns
    if columns is None:
        raise PipelineError(f"'download.agreed' describes {described.kind}, and {what} is a table")
    roles = (sorted(numbers), sorted(table.categories), table.label_columns, table.labels)
    labels = "numbers" if columns.classes is None else "classes"
    of_agreed = (
        sorted(column.name for column in columns.numbers),
        sorted(column.name for column in columns.categories),
        list(columns.label),
        labels,
    )
    for role, ours, theirs in zip(("numbers", "categories", "label", "labels"), roles, of_agreed, strict=True):
        if ours != theirs:
            raise PipelineError(
                f"params.yaml: 'download.table.{role}' is {ours}, and 'download.agreed' has {theirs}: make them equal"
            )
    return columns.model_copy(update={"client": table.client})
