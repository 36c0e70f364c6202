"""The raw data set: the content of data/raw/, written by the download stage and read by all that follow.

data/raw/
  dataset.json              name, shape of a sample, classes, the format of samples and labels, and which file is which
  train-images-idx3-ubyte   and three more IDX files (idx.py); `train-samples-idx` and so on if samples are no images
  train-clients.csv         the client of each training sample, if the data set says it
"""

import hashlib
from pathlib import Path
from typing import Annotated, Any

import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from fedpipe.atomic import write_text
from fedpipe.config.download import DatasetName
from fedpipe.datasets.idx import read_idx, read_labelled_images
from fedpipe.errors import PipelineError
from fedpipe.json_model import read_json
from fedpipe.samples.kind import PIXELS, Format, Kind, Shape, Standard

DATASET_FILE = "dataset.json"

Labelled = tuple[npt.NDArray[Any], npt.NDArray[Any]]


class Split(BaseModel):
    """The two files of one split, as names below data/raw/."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: str
    labels: str


class RawDataset(BaseModel):
    """The content of data/raw/. Nothing downstream assumes an image size, a number of classes or of samples."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: DatasetName
    image_shape: Shape  # of a sample: height, width, channels of images
    classes: Annotated[int, Field(ge=0, le=256)]  # labels are 0 to classes - 1; 0 classes where labels are numbers
    train: Split
    test: Split
    # In the file only where they say something, so that a data set of images has the description that it always had.
    format: Format = PIXELS
    clients: str | None = None  # the file with the client of each training sample

    @property
    def kind(self) -> Kind:
        """The kind of its samples and labels."""
        return Kind(self.image_shape, self.classes, self.format)

    @staticmethod
    def read(folder: Path) -> "RawDataset":
        """Reads ``folder``'s description.

        Raises:
          PipelineError: It is missing or has another format.
        """
        return read_json(
            RawDataset,
            folder / DATASET_FILE,
            missing="run the download stage first (dvc repro)",
            wrong="does not describe a data set: run the download stage again",
        )

    def read_train(self, folder: Path) -> Labelled:
        """The training samples, such as uint8 images [n, height, width, channels], and their labels, such as uint8 [n].

        Raises:
          PipelineError: A file is missing or damaged, or holds other images or labels than described.
        """
        return self._read_split(folder, self.train)

    def read_test(self, folder: Path) -> Labelled:
        """The test images and labels, as `read_train`."""
        return self._read_split(folder, self.test)

    def test_sha256(self, folder: Path) -> str:
        """Tells test sets apart: SHA-256 over the SHA-256 of the test images' and labels' files, in hexadecimal.

        Raises:
          OSError: A file is missing.
        """
        files = (folder / self.test.images, folder / self.test.labels)
        sums = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
        return hashlib.sha256("".join(sums).encode()).hexdigest()

    def _read_split(self, folder: Path, split: Split) -> Labelled:
        if not self.kind.is_image or self.format.numbers is not None:
            return self._read_arrays(folder, split)
        images, labels = read_labelled_images(folder / split.images, folder / split.labels)
        self._check_shape(folder, split, images)
        self._check_classes(folder, split, labels)
        return images, labels

    def _read_arrays(self, folder: Path, split: Split) -> Labelled:
        """Reads samples that are no images."""
        samples = read_idx(folder / split.images, kind=self.format.samples)
        labels = read_idx(folder / split.labels, kind=self.format.label_type.name)
        self._check_shape(folder, split, samples)
        if labels.shape != (len(samples), *self.kind.label_shape):
            raise PipelineError(
                f"{folder / split.labels} does not fit {folder / split.images}: run the download stage again"
            )
        if self.format.numbers is None:
            self._check_classes(folder, split, labels)
        return samples, labels

    def _check_shape(self, folder: Path, split: Split, samples: npt.NDArray[Any]) -> None:
        if samples.shape[1:] != self.image_shape:
            raise PipelineError(
                f"{folder / split.images} has images of {samples.shape[1:]}, but {folder / DATASET_FILE} says "
                f"{self.image_shape}: run the download stage again"
            )

    def _check_classes(self, folder: Path, split: Split, labels: npt.NDArray[Any]) -> None:
        if labels.max() >= self.classes:
            raise PipelineError(
                f"{folder / split.labels} has label {labels.max()}, but {folder / DATASET_FILE} says that there are "
                f"{self.classes} classes: run the download stage again"
            )


def describe(
    folder: Path, name: str, train: Split, test: Split, classes: int | None = None, standard: Standard | None = None
) -> RawDataset:
    """Looks at the four files of images in ``folder``, and writes and returns their description.

    The number of classes is ``classes``, or else the highest label plus one. Models standardise images by ``standard``.

    Raises:
      PipelineError: A file is missing or damaged, or the two splits have images of different shapes.
    """
    train_images, train_labels = read_labelled_images(folder / train.images, folder / train.labels)
    test_images, test_labels = read_labelled_images(folder / test.images, folder / test.labels)
    if train_images.shape[1:] != test_images.shape[1:]:
        raise PipelineError(
            f"{folder / train.images} has images of {train_images.shape[1:]}, but {folder / test.images} of "
            f"{test_images.shape[1:]}"
        )
    classes = classes or max(2, int(max(train_labels.max(), test_labels.max())) + 1)
    described = RawDataset(
        name=name,
        image_shape=train_images.shape[1:],
        classes=classes,
        train=train,
        test=test,
        format=Format(standard=standard),
    )
    write_description(folder, described)
    return described


def write_description(folder: Path, dataset: RawDataset) -> None:
    """Writes the description of the files in ``folder``, unless it is there."""
    text = dataset.model_dump_json(indent=2, exclude_defaults=True) + "\n"
    path = folder / DATASET_FILE
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)
