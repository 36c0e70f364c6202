"""Arrays of an npz that are no images: real digits as floats, numbers as labels, tokens, and refusals by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits

from fedpipe.config.download import Constants, UserDataset
from fedpipe.datasets.idx import write_idx
from fedpipe.datasets.raw import RawDataset, describe
from fedpipe.datasets.sources.arrays import write_arrays
from fedpipe.datasets.sources.parts import Part
from fedpipe.datasets.sources.published import TEST, TRAIN
from fedpipe.datasets.sources.standard import standard_of
from fedpipe.errors import PipelineError
from fedpipe.samples.kind import Standard

NPZ = {"source": "a.npz", "sha256": "0" * 64}
NAMES = ("x_train", "y_train", "x_test", "y_test")


def written(folder: Path, arrays: tuple[Any, ...], standardise: Any = None, **section: Any) -> RawDataset:
    dataset = UserDataset.model_validate({"name": "mine", "npz": NPZ, **section})
    parts = [Part(name, np.asarray(array)) for name, array in zip(NAMES, arrays, strict=True)]
    write_arrays(dataset, standardise, parts, folder)
    return RawDataset.read(folder)


def test_digits_as_floats_are_standardised_over_the_training_samples(tmp_path: Path) -> None:
    pixels, labels = load_digits(return_X_y=True)
    dataset = written(
        tmp_path, (pixels[:1500], labels[:1500], pixels[1500:], labels[1500:]), "training", samples="float32"
    )
    samples, classes = dataset.read_train(tmp_path)
    varied = pixels[:1500].std(axis=0) > 0
    np.testing.assert_allclose(samples.mean(axis=0, dtype=np.float64), 0, atol=1e-6)
    np.testing.assert_allclose(samples.std(axis=0, dtype=np.float64)[varied], 1, atol=1e-6)
    assert (samples[:, ~varied] == 0).all() and (dataset.image_shape, dataset.classes) == ((64,), 10)
    np.testing.assert_array_equal(classes, labels[:1500])
    assert dataset.read_test(tmp_path)[0].dtype == np.float32


def test_images_stay_bytes_and_have_the_moments_of_each_channel(tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (40, 6, 5, 3), np.uint8)
    pixels[..., 2] = 7  # all alike
    standard = standard_of("training", pixels)
    shares = pixels.reshape(-1, 3) / 255
    np.testing.assert_allclose(standard.means, shares.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(standard.deviations, [*shares.std(axis=0)[:2], 1.0], rtol=1e-12)
    for split in (TRAIN, TEST):
        write_idx(tmp_path / split.images, pixels)
        write_idx(tmp_path / split.labels, np.arange(40, dtype=np.uint8) % 2)
    described = describe(tmp_path, "mine", TRAIN, TEST, standard=standard)
    assert RawDataset.read(tmp_path) == described and described.kind.is_image
    np.testing.assert_array_equal(described.read_train(tmp_path)[0], pixels)
    assert standard_of(Constants(means=[0.5], deviations=[0.25]), pixels) == Standard(means=(0.5,), deviations=(0.25,))
    with pytest.raises(PipelineError, match=r"'download.standardise.means' has 2 numbers; right are 1, or 3"):
        standard_of(Constants(means=[0.5, 0.5], deviations=[0.25]), pixels)


def test_labels_that_are_numbers_have_variances_and_bins(tmp_path: Path) -> None:
    values, target = load_diabetes(return_X_y=True)
    dataset = written(
        tmp_path, (values[:400], target[:400], values[400:], target[400:]), samples="float32", labels="numbers"
    )
    labels, kind = dataset.read_train(tmp_path)[1], dataset.kind
    assert labels.shape == (400, 1) and kind.outputs == 1 and kind.bins == 10 and kind.classes == 0
    assert kind.format.numbers is not None
    np.testing.assert_allclose(kind.format.numbers.variances, [labels.astype(np.float64).var()], rtol=1e-12)
    assert np.bincount(kind.binned(labels)).min() > 30


def test_tokens_and_constants(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    tokens = np.array([[1, 5, 0], [7, 2, 2]])
    dataset = written(tmp_path / "a", (tokens, [0, 1], tokens[:1], [1]), samples="int32")
    assert dataset.format.tokens == 8 and dataset.read_train(tmp_path / "a")[0].dtype == np.int32
    constants = Constants(means=[1.0], deviations=[2.0])
    halves = written(tmp_path / "b", (tokens, [0, 1], tokens[:1], [1]), constants, samples="float32")
    np.testing.assert_array_equal(halves.read_train(tmp_path / "b")[0], (tokens - 1) / 2)


X, Y = np.ones((4, 3)), np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("arrays", "section", "sentence"),
    [
        ((X * np.nan, Y, X, Y), {"samples": "float32"}, "x_train has values that are missing or infinite"),
        ((X, Y, X[:, :2], Y), {"samples": "float32"}, "x_test has samples of (2,), but x_train of (3,)"),
        ((X, Y[:3], X, Y), {"samples": "float32"}, "y_train has 3 labels, but x_train 4 samples"),
        ((X, Y, X, Y), {"samples": "int32"}, "x_train has numbers of type float64; int32 samples are integers"),
        ((-X.astype(int), Y, X.astype(int), Y), {"samples": "int32"}, "x_train has values from -1 to -1"),
        ((X, Y + 0.5, X, Y), {"samples": "float32"}, "y_train has numbers of type float64"),
        ((X, Y + 1, X, Y), {"samples": "float32", "classes": 2}, "'download.idx.classes' is 2, and mine has label 2"),
        (
            (X, np.full(4, np.inf), X, Y),
            {"labels": "numbers", "samples": "float32"},
            "y_train has labels that are missing",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    tmp_path: Path, arrays: tuple[Any, ...], section: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(PipelineError) as refused:
        written(tmp_path, arrays, **section)
    assert sentence in str(refused.value)
