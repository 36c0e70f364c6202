"""A user's data as the samples that a model takes: rows of a table, or arrays that are still to be standardised."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fedpipe.errors import PipelineError
from fedpipe.samples.kind import Kind

if TYPE_CHECKING:
    import pandas as pd


def samples_of(kind: Kind, data: "np.ndarray | pd.DataFrame", called: str) -> np.ndarray:
    """The samples of ``data``: a table where a sample is a row of one, else an array [n, ...].

    Args:
      kind: The kind of samples that the model takes.
      data: Rows with the columns by their names, or an array of the model's type and shape.
      called: What messages call it.

    Raises:
      PipelineError: It has another shape or type, lacks a column, or lacks a value that nothing is filled in for.
    """
    sample_format = kind.format
    if sample_format.columns is not None:
        table: Any = data
        if not hasattr(table, "columns"):
            raise PipelineError(f"{called} is no table; the model takes {kind}")
        return sample_format.columns.samples(table, called)
    array = np.asarray(data)
    if array.shape[1:] != kind.shape:
        raise PipelineError(f"{called} has samples of {array.shape[1:]}; the model takes {kind}")
    if sample_format.samples == "float32":
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise PipelineError(f"{called} has values that are no finite numbers; the model takes {kind}")
        standard = sample_format.standard
        return array.astype(np.float32) if standard is None else standard.apply(array)
    largest = 255 if sample_format.samples == "uint8" else (sample_format.tokens or 0) - 1
    if array.dtype.kind not in "iu" or (array.size and (array.min() < 0 or array.max() > largest)):
        raise PipelineError(f"{called} has values that are no integers from 0 to {largest}; the model takes {kind}")
    return array.astype(sample_format.samples)
