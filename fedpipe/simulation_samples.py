"""The samples and labels that `fedpipe.simulate` takes: images, rows of numbers, a DataFrame; classes or numbers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fedpipe.datasets.raw import Labelled
from fedpipe.datasets.sources.arrays import numbers_of
from fedpipe.datasets.sources.standard import standard_of
from fedpipe.errors import PipelineError
from fedpipe.networks.arrays import require_images, require_labels, require_samples
from fedpipe.samples.columns import CategoryColumn, Columns, NumberColumn, as_text, numbers
from fedpipe.samples.inputs import samples_of
from fedpipe.samples.kind import PIXELS, Format, Kind
from fedpipe.samples.moments import mean_and_deviation

if TYPE_CHECKING:
    import pandas as pd

_CALLED = "samples"
_MOST_CLASSES = 256
Standardise = Literal["training"] | None


@dataclass(frozen=True, eq=False)
class Described:
    """Samples and labels as shards hold them."""

    samples: np.ndarray
    labels: np.ndarray
    classes: int  # 0 where labels are numbers
    format: Format

    @property
    def kind(self) -> Kind:
        """Their kind."""
        return Kind(self.samples.shape[1:], self.classes, self.format)

    def measured(self, name: str, pair: Any) -> Labelled:
        """A pair of samples and labels of the same kind, on which a model is measured; ``name`` is the argument's.

        Raises:
          PipelineError: It is no pair, has no sample, or is of another kind.
        """
        if self.kind.is_image:
            require_samples(name, pair, self.samples.shape[1:], self.classes)
            return pair[0], pair[1]
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise PipelineError(f"{name} must be a pair (samples, labels)")
        if not len(pair[0]):
            raise PipelineError(f"{name} has no sample: leave it out if there is nothing to measure on")
        samples = samples_of(self.kind, pair[0], f"{name} samples")
        labels = _labels(f"{name} labels", pair[1], len(samples), self.classes or None)
        if labels.dtype != self.labels.dtype or labels.shape[1:] != self.labels.shape[1:]:
            raise PipelineError(
                f"{name} labels must be {self.labels.dtype}, as the training labels are, not {labels.dtype} "
                f"{list(labels.shape)}"
            )
        return samples, labels


def described(samples: Any, labels: Any, classes: int | None, standardise: Standardise) -> Described:
    """The training samples and labels.

    Args:
      samples: uint8 images [n, height, width, channels]; numbers [n, values]; or a DataFrame, whose columns of numbers
        and of categories make the samples.
      labels: Integers [n] for classes, floats [n] or [n, numbers] for numbers.
      classes: The number of classes; by default one more than the largest label.
      standardise: ``training``: each value less its mean over ``samples``, divided by its deviation; None: as it is.

    Raises:
      PipelineError: They are something else, or do not fit together.
    """
    if standardise not in (None, "training"):
        raise PipelineError(f"standardise must be 'training' or None, not {standardise!r}")
    if not _is_table(samples) and not (isinstance(samples, np.ndarray) and samples.ndim == 2):
        require_images("images", samples)
        require_labels("labels", labels, len(samples))
        count = class_count(labels, classes)
        require_labels("labels", labels, len(samples), count)
        standard = None if standardise is None else standard_of(standardise, samples)
        return Described(samples, labels, count, PIXELS if standard is None else Format(standard=standard))
    made = _labels("labels", labels, len(samples), None)
    if _is_table(samples):
        columns = _columns(samples, standardise)
        base, rows = Format(samples="float32", columns=columns), columns.samples(samples, _CALLED)
    else:
        rows = _rows(samples)
        standard = None if standardise is None else standard_of(standardise, rows)
        base = Format(samples="float32", standard=standard)
        rows = rows if standard is None else standard.apply(rows)
    if made.dtype == np.uint8:
        count = class_count(made, classes)
        require_labels("labels", made, len(samples), count)
        return Described(rows, made, count, base)
    if classes is not None:
        raise PipelineError(f"classes is {classes}, and labels are {made.dtype}: give integers for classes")
    return Described(rows, made, 0, base.model_copy(update={"numbers": numbers_of(made)}))


def class_count(labels: np.ndarray, classes: int | None) -> int:
    """The number of classes, ``classes`` if it is given."""
    if classes is None:
        return max(2, int(labels.max()) + 1) if len(labels) else 2
    if isinstance(classes, bool) or not isinstance(classes, int | np.integer) or not 2 <= classes <= _MOST_CLASSES:
        raise PipelineError(f"classes must be a number from 2 to {_MOST_CLASSES}, not {classes!r}")
    return int(classes)


def _is_table(samples: Any) -> bool:
    return hasattr(samples, "columns") and hasattr(samples, "iloc")


def _rows(samples: np.ndarray) -> np.ndarray:
    """Rows of numbers as float32 [n, values]."""
    if samples.dtype.kind not in "fiu" or not samples.shape[1]:
        raise PipelineError(f"samples must be numbers [n, values], not {samples.dtype} {list(samples.shape)}")
    if not np.isfinite(samples).all():
        raise PipelineError("samples have values that are missing or infinite: fill them, or leave the rows out")
    return samples.astype(np.float32)


def _columns(table: "pd.DataFrame", standardise: Standardise) -> Columns:
    """Columns of numbers, and those of text, categories or booleans."""
    if not all(isinstance(name, str) for name in table.columns) or not table.columns.is_unique or table.empty:
        raise PipelineError("samples must be a DataFrame with rows, and with a name for each column that no other has")
    number_columns, categories = [], []
    for name in table.columns:
        if table[name].dtype.kind in "iuf":
            values = numbers(table[name], name, _CALLED)
            moments = mean_and_deviation(values) if standardise and not np.isnan(values).any() else (0.0, 1.0)
            number_columns.append(NumberColumn(name=name, mean=moments[0], deviation=moments[1]))
        else:
            texts = {str(text) for text in as_text(table[name]) if text}
            categories.append(CategoryColumn(name=name, categories=tuple(sorted(texts))))
    return Columns(numbers=tuple(number_columns), categories=tuple(categories), label=("label",))


def _labels(name: str, labels: Any, count: int, classes: int | None) -> np.ndarray:
    """Classes uint8 [n], or numbers float32 [n, numbers].

    Raises:
      PipelineError: They are neither, or there is not one for each sample.
    """
    array = np.asarray(labels)
    if array.dtype.kind not in "iuf" or array.ndim not in (1, 2) or len(array) != count:
        remedy = ": np.unique(labels, return_inverse=True)[1] numbers words" if array.dtype.kind in "OUSb" else ""
        raise PipelineError(
            f"{name} must be integers [{count}] for classes, or floats for numbers, not {array.dtype} "
            f"{list(array.shape)}{remedy}"
        )
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise PipelineError(f"{name} are missing or infinite in some rows: leave these out")
        return array.astype(np.float32).reshape(count, -1)
    if array.ndim == 2 or (count and not 0 <= array.min() <= array.max() < _MOST_CLASSES):
        raise PipelineError(
            f"{name} that are integers are classes from 0 to {_MOST_CLASSES - 1}, one for each sample: give floats for "
            "numbers, or fewer classes"
        )
    array = array.astype(np.uint8)
    if classes is not None:
        require_labels(name, array, count, classes)
    return array
