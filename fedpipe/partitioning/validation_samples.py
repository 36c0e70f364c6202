"""Validation samples: training samples that no client gets, by which rounds and rates are chosen.

Every training sample has a key, a number drawn for it from the seed; the ``partition.validation`` samples with the
smallest keys are the validation samples. So each sample has the same chance, and a pool that grows keeps the split: a
sample that a client trained on never becomes a validation sample, since the largest key of the validation samples only
falls. (Those with larger keys go to the clients, and samples of the new batches take their place.) A draw by label
would not have that: a batch of one label would raise this label's quota. Withdrawn samples keep their numbers, so the
place of a withdrawn validation sample stays empty until new samples come.

Source: Cohen and Kaplan 2007, "Summarizing data using bottom-k sketches", https://doi.org/10.1145/1281100.1281133.
"""

import numpy as np
import pandas as pd

from fedpipe.config import Partition
from fedpipe.seeds import Purpose, generator


def sample(samples: int, params: Partition) -> np.ndarray:
    """The validation samples among ``samples`` training samples: their indices, ascending, int [params.validation]."""
    keys = generator(params.seed, Purpose.VALIDATION).random(samples)
    return np.sort(np.argsort(keys, kind="stable")[: params.validation])


def table(labels: np.ndarray, chosen: np.ndarray) -> pd.DataFrame:
    """One row a validation sample: sample (its index among the training samples), label."""
    return pd.DataFrame({"sample": chosen, "label": labels[chosen]})
