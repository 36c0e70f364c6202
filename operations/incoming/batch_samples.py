"""A batch whose samples are no images: a table where the data set is one, else an npz with other arrays."""

import zipfile
from pathlib import Path

import numpy as np

from fedpipe.datasets.batch_file import Batch
from fedpipe.errors import PipelineError
from fedpipe.samples.inputs import samples_of
from fedpipe.samples.kind import Kind
from fedpipe.samples.rows import read_rows
from operations.incoming.batch_clients import KEY, as_names

_ARRAYS = ("x", "y")


def read_samples(path: Path, kind: Kind) -> Batch:
    """The samples of a batch, as the model takes them.

    Raises:
      PipelineError: The file does not hold samples and labels of this kind; the message is the reason.
    """
    columns = kind.format.columns
    if columns is not None:
        if path.suffix not in (".csv", ".parquet"):
            raise PipelineError(
                f"{path.name} is no table; the data set has {kind}, so a batch is NAME.csv or NAME.parquet"
            )
        rows = read_rows(path, path.name, columns.texts)
        clients = columns.clients(rows, path.name)
        return Batch(columns.samples(rows, path.name), columns.labels(rows, path.name), clients)
    if path.suffix != ".npz":
        raise PipelineError(f"{path.name} is no npz; the data set has {kind}, so a batch is NAME.npz with x and y")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            missing = [name for name in _ARRAYS if name not in arrays]
            if missing:
                raise PipelineError(
                    f"{path.name} has no array {missing[0]}; x and y are expected, and clients if there are any"
                )
            samples, labels = arrays["x"], arrays["y"]
            clients = as_names(arrays[KEY], len(labels)) if KEY in arrays else None
    except (zipfile.BadZipFile, ValueError, EOFError, OSError) as error:
        raise PipelineError(f"{path.name} is not a readable npz file: {error}") from None
    return Batch(samples_of(kind, samples, f"{path.name}: x"), _labels(labels, len(samples), kind, path.name), clients)


def _labels(labels: np.ndarray, samples: int, kind: Kind, called: str) -> np.ndarray:
    if len(labels) != samples or not samples:
        raise PipelineError(f"{called} holds {samples} samples, but {len(labels)} labels")
    if kind.format.numbers is not None:
        labels = labels.reshape(samples, -1)
        if labels.shape[1:] != kind.label_shape or labels.dtype.kind not in "fiu" or not np.isfinite(labels).all():
            raise PipelineError(f"{called}: y must have {kind.outputs} finite numbers for each sample")
        return labels.astype(np.float32)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= kind.classes:
        raise PipelineError(f"{called}: y must be integers from 0 to {kind.classes - 1}")
    return labels.astype(np.uint8)
