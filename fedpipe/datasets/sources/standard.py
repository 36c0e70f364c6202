"""How samples are standardised: constants of params.yaml, or means and deviations over the training samples."""

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fedpipe.config.download import Constants
from fedpipe.errors import PipelineError
from fedpipe.samples.kind import Standard
from fedpipe.samples.moments import mean_and_deviation

_WHITE = 255


def standard_of(standardise: Literal["training"] | Constants, samples: npt.NDArray[Any]) -> Standard:
    """Means and deviations of each place on the last axis (the channels of images), or one of each.

    Args:
      standardise: The section.
      samples: Training samples [n, ...], float32 or uint8; of the latter, values are taken from 0 to 1.

    Raises:
      PipelineError: The section names columns, or has a wrong number of constants.
    """
    last = samples.shape[-1]
    if standardise == "training":
        columns = samples.reshape(-1, last)
        moments = [_of_column(columns[:, place]) for place in range(last)]
        return Standard(means=[mean for mean, _ in moments], deviations=[deviation for _, deviation in moments])
    means, deviations = standardise.means, standardise.deviations
    if isinstance(means, dict) or isinstance(deviations, dict):
        raise PipelineError(
            "params.yaml: 'download.standardise' names columns, which only a table has: give lists of numbers"
        )
    for key, values in (("means", means), ("deviations", deviations)):
        if len(values) not in (1, last):
            raise PipelineError(
                f"params.yaml: 'download.standardise.{key}' has {len(values)} numbers; right are 1, or {last} for the "
                "last axis of the samples"
            )
    return Standard(means=means, deviations=deviations)


def _of_column(values: npt.NDArray[Any]) -> tuple[float, float]:
    """Mean and deviation of one place; whole numbers are added exactly, so that millions of pixels take no time."""
    if values.dtype != np.uint8:
        return mean_and_deviation(values.astype(np.float64))
    counts = [int(count) for count in np.bincount(values, minlength=_WHITE + 1)]
    number = len(values)
    total = sum(count * value for value, count in enumerate(counts))
    squares = sum(count * value**2 for value, count in enumerate(counts))
    deviation = math.sqrt((number * squares - total**2) / (number * _WHITE) ** 2)
    return total / (number * _WHITE), deviation if deviation > 0 else 1.0
