"""Rows of a table, or samples of a NumPy file, as a table of the champion's predictions."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedpipe.errors import PipelineError
from fedpipe.samples.inputs import samples_of
from fedpipe.samples.kind import Kind
from fedpipe.samples.rows import read_rows

if TYPE_CHECKING:
    import pandas as pd


def read_samples(path: Path, kind: Kind) -> np.ndarray:
    """The samples of a file: a CSV or Parquet file for a model of tables, else a ``.npy`` file.

    Raises:
      PipelineError: The file cannot be read, or does not hold the model's inputs.
    """
    if not path.is_file():
        raise PipelineError(f"'{path}' is no file: the model takes {kind}, so name the file that holds them")
    columns = kind.format.columns
    if columns is not None:
        return samples_of(kind, read_rows(path, str(path), columns.texts), str(path))
    try:
        array: Any = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise PipelineError(f"{path} is no .npy file that can be read ({error})") from None
    if not isinstance(array, np.ndarray):
        raise PipelineError(f"{path} is an archive of arrays: save the samples alone, with np.save")
    return samples_of(kind, array, str(path))


def predictions_table(kind: Kind, predictions: np.ndarray) -> "pd.DataFrame":
    """A row for each sample: row, label and probability; or row and the predicted numbers, by their names."""
    import pandas as pd

    table = pd.DataFrame({"row": np.arange(len(predictions))})
    columns = kind.format.columns
    if kind.format.numbers is not None:
        numbers = columns.label if columns is not None else [f"label_{place}" for place in range(kind.outputs)]
        for place, name in enumerate(numbers):
            table[name] = predictions[:, place]
        return table
    labels = predictions.argmax(axis=1)
    classes = columns.classes if columns is not None else None
    table["label"] = labels if classes is None else [classes[label] for label in labels]
    table["probability"] = [f"{value:.6f}" for value in predictions.max(axis=1)]
    return table
