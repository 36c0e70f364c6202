"""The kind of a data set's samples and labels. By default a sample is a uint8 image and its label a class.

Shape and number of classes have been in all descriptions from the beginning; `Format` says what else there is to say,
and is left out of a file where there is nothing. So a data set of images has the description that it always had.
"""

from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from fedpipe.samples.columns import Columns

Shape = tuple[int, ...]
_BINS = 10


class Numbers(BaseModel):
    """Labels that are numbers: one or several for each sample, float32."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    variances: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]  # over the training samples
    edges: tuple[float, ...]  # between the bins of the first number, ascending: ten bins of even size, if they can be

    def bins(self, labels: np.ndarray) -> np.ndarray:
        """The bin of each label's first number, uint8 [n]; labels are float32 [n, numbers]."""
        return np.searchsorted(self.edges, labels[:, 0].astype(np.float64), side="right").astype(np.uint8)

    @staticmethod
    def of(labels: np.ndarray, variances: tuple[float, ...]) -> "Numbers":
        """Of training labels float32 [n, numbers], which have these variances."""
        ascending = np.sort(labels[:, 0]).astype(np.float64)
        # Elements of the array, so that no rounding decides where a label belongs; equal labels share a bin.
        inner = ascending[[len(ascending) * number // _BINS for number in range(1, _BINS)]]
        return Numbers(variances=variances, edges=tuple(np.unique(inner[inner > ascending[0]]).tolist()))


class Standard(BaseModel):
    """Samples are standardised: (x - mean) / deviation along their last axis.

    Float32 samples are standardised in the data set. Uint8 samples stay as they are, and a model standardises
    x / 255.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    means: tuple[float, ...]  # one, or one for each place on the last axis
    deviations: tuple[Annotated[float, Field(gt=0)], ...]

    def apply(self, samples: np.ndarray) -> np.ndarray:
        """Samples float32 of the same shape."""
        return ((samples.astype(np.float64) - self.means) / self.deviations).astype(np.float32)


class Format(BaseModel):
    """The facts of a data set besides the shape of a sample and the number of classes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    samples: Literal["uint8", "float32", "int32"] = "uint8"
    tokens: int | None = None  # of int32 samples: one more than the largest integer
    numbers: Numbers | None = None  # None where labels are classes
    standard: Standard | None = None
    columns: Columns | None = None  # of the table that a sample is a row of

    @property
    def label_type(self) -> np.dtype[np.uint8] | np.dtype[np.float32]:
        """The type of a label's numbers."""
        return np.dtype(np.uint8) if self.numbers is None else np.dtype(np.float32)


PIXELS = Format()


class Kind(NamedTuple):
    """What two data sets, or a data set and a model, must have in common."""

    shape: Shape  # of a sample
    classes: int  # 0 where labels are numbers
    format: Format

    @property
    def outputs(self) -> int:
        """Numbers that a model gives for a sample: one for each class, or for each number of a label."""
        numbers = self.format.numbers
        return self.classes if numbers is None else len(numbers.variances)

    @property
    def label_shape(self) -> Shape:
        """The shape of a label: [] for a class."""
        return () if self.format.numbers is None else (self.outputs,)

    @property
    def label_kind(self) -> Literal["classes", "numbers"]:
        """What labels are."""
        return "classes" if self.format.numbers is None else "numbers"

    @property
    def is_image(self) -> bool:
        """Whether samples are uint8 images [height, width, channels]."""
        return self.format.samples == "uint8" and self.format.columns is None and len(self.shape) == 3

    @property
    def bins(self) -> int:
        """Groups of labels that a partition tells apart: the classes, or the bins of the numbers."""
        numbers = self.format.numbers
        return self.classes if numbers is None else len(numbers.edges) + 1

    def binned(self, labels: np.ndarray) -> np.ndarray:
        """The group of each label: the label itself, or its bin; uint8 [n]."""
        numbers = self.format.numbers
        return labels if numbers is None else numbers.bins(labels)

    def __str__(self) -> str:
        columns, numbers = self.format.columns, self.format.numbers
        what = "images" if self.is_image else f"{self.format.samples} samples"
        if self.format.standard is not None:
            what = f"standardised {what}"
        if columns is not None:
            what = f"rows of {len(columns.numbers) + len(columns.categories)} columns as samples"
        labels = f"of {self.classes} classes" if numbers is None else f"with {self.outputs} numbers as label"
        return f"{what} {self.shape} {labels}"
