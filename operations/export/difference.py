"""An exported model beside this project's: their predictions of the same samples."""

from typing import NamedTuple

import numpy as np

import layout
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import PipelineError
from fedpipe.samples.kind import Kind
from operations.export.formats import Predict

SAMPLES = 1000
_LARGEST = 1e-4  # of probabilities; of numbers, as a share of the largest one
_SEED = 2024


class Samples(NamedTuple):
    """Samples to compare predictions of."""

    values: np.ndarray  # [n, ...]
    source: str  # what they are, for people


class Difference(NamedTuple):
    """How far two models' predictions are apart."""

    largest: float  # difference of two probabilities or numbers
    labels: int  # samples that get another label; 0 where labels are numbers


def samples_for(kind: Kind) -> Samples:
    """The first test samples of the data set here, or random ones where there are none of this kind."""
    try:
        dataset = RawDataset.read(layout.RAW)
        if dataset.kind == kind:
            values, _ = dataset.read_test(layout.RAW)
            return Samples(values[:SAMPLES], f"{min(len(values), SAMPLES):,} test samples")
    except PipelineError:
        pass  # a champion from elsewhere needs no data set
    return Samples(_random(kind), f"{SAMPLES:,} random samples, for want of a data set")


def difference(exported: Predict, predict: Predict, samples: Samples) -> Difference:
    """How far the exported model is apart from this project's.

    Raises:
      PipelineError: Its predictions have another shape, or are too far apart.
    """
    theirs, ours = exported(samples.values), predict(samples.values)
    if theirs.shape != ours.shape:
        raise PipelineError(f"the exported model gives {list(theirs.shape)} numbers, not {list(ours.shape)}")
    largest = float(np.abs(theirs.astype(np.float64) - ours).max())
    labels = int((theirs.argmax(axis=1) != ours.argmax(axis=1)).sum()) if ours.shape[1] > 1 else 0
    limit = _LARGEST * max(1.0, float(np.abs(ours).max()))
    if not largest <= limit:
        raise PipelineError(
            f"the exported model's predictions of {samples.source} differ by up to {largest:.2g}, more than "
            f"{limit:.2g}: nothing is written"
        )
    return Difference(largest, labels)


def _random(kind: Kind) -> np.ndarray:
    shape, rng = (SAMPLES, *kind.shape), np.random.default_rng(_SEED)
    if kind.format.samples == "float32":
        return rng.standard_normal(shape, np.float32)
    if kind.format.samples == "int32":
        return rng.integers(0, kind.format.tokens or 1, shape, dtype=np.int32)
    return rng.integers(0, 256, shape, dtype=np.uint8)
