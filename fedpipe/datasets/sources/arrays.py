"""Samples that are no images: arrays of an ``.npz``, and their description."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fedpipe.config.download import Constants, UserDataset
from fedpipe.datasets.idx import write_idx
from fedpipe.datasets.raw import RawDataset, write_description
from fedpipe.datasets.sources.label_form import check_label_form
from fedpipe.datasets.sources.parts import Part
from fedpipe.datasets.sources.published import TEST_SAMPLES, TRAIN_SAMPLES
from fedpipe.datasets.sources.standard import standard_of
from fedpipe.errors import PipelineError
from fedpipe.samples.kind import Format, Kind, Numbers
from fedpipe.samples.moments import mean_and_deviation

_LARGEST_TOKEN = 2**24 - 1  # float32 holds every integer up to here


def write_arrays(
    dataset: UserDataset,
    standardise: Literal["training"] | Constants | None,
    parts: list[Part],
    folder: Path,
    agreed: RawDataset | None = None,
) -> None:
    """Writes the files of a data set of arrays, and their description, into ``folder``.

    Args:
      dataset: Which types samples and labels have.
      standardise: How samples are standardised: float32 ones here, uint8 ones by the model.
      parts: Training samples and labels, test samples and labels.
      folder: An empty folder.
      agreed: The description of a federation's data set, to which samples and labels are fitted.

    Raises:
      PipelineError: An array is not as the section or the description says; the message names it.
    """
    train, train_labels, test, test_labels = parts
    kind = "uint8" if dataset.samples == "images" else dataset.samples
    samples = [_samples(part, kind, dataset.samples == "images") for part in (train, test)]
    if samples[0].shape[1:] != samples[1].shape[1:]:
        raise PipelineError(
            f"{test.called} has samples of {samples[1].shape[1:]}, but {train.called} of {samples[0].shape[1:]}; they "
            "must be alike"
        )
    standard = None if standardise is None else standard_of(standardise, samples[0])
    standard = standard if agreed is None else agreed.format.standard
    if standard is not None and kind == "float32":
        samples = [standard.apply(array) for array in samples]
    is_of_numbers = dataset.labels == "numbers"
    labels: list[npt.NDArray[Any]] = [
        (_numbers if is_of_numbers else _classes)(part) for part in (train_labels, test_labels)
    ]
    for some, part, label_part in zip(samples, (train, test), (train_labels, test_labels), strict=True):
        count = len(labels[0] if label_part is train_labels else labels[1])
        if len(some) != count:
            raise PipelineError(f"{label_part.called} has {count} labels, but {part.called} {len(some)} samples")
    tokens = int(max(array.max() for array in samples)) + 1 if kind == "int32" else None
    numbers = numbers_of(labels[0]) if is_of_numbers else None
    classes = 0 if is_of_numbers else _class_count(dataset, labels)
    described = Format(samples=kind, tokens=tokens, numbers=numbers, standard=standard)
    if agreed is not None:
        _require_fitting(agreed, Kind(tuple(samples[0].shape[1:]), classes, described), dataset.name)
        classes, described = agreed.classes, agreed.format
    write_samples(folder, dataset.name, classes, described, (samples[0], labels[0]), (samples[1], labels[1]))


def _require_fitting(agreed: RawDataset, own: Kind, name: str) -> None:
    """Raises PipelineError for samples or labels that the agreed description does not have."""
    theirs = agreed.format
    fits = {
        f"samples of type {own.format.samples} and shape {own.shape}": (own.format.samples, own.shape)
        == (theirs.samples, agreed.image_shape),
        f"tokens up to {(own.format.tokens or 1) - 1}": (own.format.tokens or 0) <= (theirs.tokens or 0),
        f"labels that are {own.label_kind}, {own.outputs} of them": own.label_kind == agreed.kind.label_kind
        and (own.outputs <= agreed.kind.outputs if own.classes else own.outputs == agreed.kind.outputs),
    }
    for what, fit in fits.items():
        if not fit:
            raise PipelineError(f"{name} has {what}, and 'download.agreed' describes {agreed.kind}: they do not fit")


def _class_count(dataset: UserDataset, labels: list[npt.NDArray[Any]]) -> int:
    """One more than the highest label, or the section's number."""
    highest = int(max(array.max() for array in labels))
    if dataset.classes is not None and highest >= dataset.classes:
        raise PipelineError(
            f"params.yaml: 'download.idx.classes' is {dataset.classes}, and {dataset.name} has label {highest}: "
            f"labels are 0 to classes - 1, so set it to {highest + 1} or more"
        )
    return dataset.classes or max(2, highest + 1)


def numbers_of(labels: npt.NDArray[np.float32]) -> Numbers:
    """The description of training labels that are numbers: float32 [n, numbers]."""
    deviations = (mean_and_deviation(labels[:, place].astype(np.float64))[1] for place in range(labels.shape[1]))
    return Numbers.of(labels, tuple(deviation**2 for deviation in deviations))


def write_samples(
    folder: Path,
    name: str,
    classes: int,
    described: Format,
    train: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    test: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    clients: str | None = None,
) -> None:
    """Writes samples and labels of both splits and their description."""
    for split, (samples, labels) in ((TRAIN_SAMPLES, train), (TEST_SAMPLES, test)):
        write_idx(folder / split.images, samples)
        write_idx(folder / split.labels, labels)
    shape = tuple(train[0].shape[1:])
    dataset = RawDataset(
        name=name,
        image_shape=shape,
        classes=classes,
        train=TRAIN_SAMPLES,
        test=TEST_SAMPLES,
        format=described,
        clients=clients,
    )
    write_description(folder, dataset)


def _samples(part: Part, kind: Literal["uint8", "float32", "int32"], are_images: bool) -> npt.NDArray[Any]:
    array = part.array
    if array.ndim < 2 or 0 in array.shape:
        raise PipelineError(
            f"{part.called} has shape {array.shape}; samples must be [n, ...], with at least one axis more"
        )
    if kind == "float32":
        if array.dtype.kind not in "fiu":
            raise PipelineError(f"{part.called} has numbers of type {array.dtype}; float32 samples are made of numbers")
        if not np.isfinite(array).all():
            raise PipelineError(
                f"{part.called} has values that are missing or infinite: fill them, or leave the samples out"
            )
        return array.astype(np.float32)
    if array.dtype.kind not in "iu":
        raise PipelineError(f"{part.called} has numbers of type {array.dtype}; {kind} samples are integers")
    lowest, highest = int(array.min()), int(array.max())
    largest = 255 if kind == "uint8" else _LARGEST_TOKEN
    if lowest < 0 or highest > largest:
        raise PipelineError(f"{part.called} has values from {lowest} to {highest}; allowed: 0 to {largest}")
    array = array.astype(kind)
    return array[..., np.newaxis] if are_images and array.ndim == 3 else array


def _numbers(part: Part) -> npt.NDArray[np.float32]:
    array = part.array
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2) or not array.size:
        raise PipelineError(
            f"{part.called} has shape {array.shape} and type {array.dtype}; labels that are numbers are [n] or [n, "
            "numbers]"
        )
    if not np.isfinite(array).all():
        raise PipelineError(f"{part.called} has labels that are missing or infinite: leave these samples out")
    return array.astype(np.float32).reshape(len(array), -1)


def _classes(part: Part) -> npt.NDArray[np.uint8]:
    array = part.array
    check_label_form(part.called, array.dtype, array.shape, array)
    if array.ndim != 1 or not array.size:
        raise PipelineError(f"{part.called} has shape {array.shape}; labels must be one number per sample")
    if array.min() < 0 or array.max() > 255:
        raise PipelineError(f"{part.called} has values from {array.min()} to {array.max()}; allowed: 0 to 255")
    return array.astype(np.uint8)
