"""The zoo: sizes, gradients against TensorFlow's own, and the weights file."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from fedpipe.models.layers import convolve_relu_pool

from fedpipe.config import MODEL_NAMES
from fedpipe.errors import PipelineError
from fedpipe.models import zoo as models

SIZES = {"baseline_cnn": 54_410, "mcmahan_2nn": 199_210, "mcmahan_cnn": 1_663_370}


def spec_of(name: str) -> models.ModelSpec:
    return models.ModelSpec(name, (28, 28, 1), 10)


def weights_of(name: str, seed: int = 0) -> models.Weights:
    return models.initial_weights(spec_of(name), np.random.default_rng(seed))


def test_every_model_of_the_params_is_here() -> None:
    assert set(SIZES) == set(MODEL_NAMES)


@pytest.mark.parametrize("name", SIZES)
def test_number_of_weights(name: str) -> None:
    assert sum(w.size for w in weights_of(name)) == SIZES[name]


@pytest.mark.parametrize("name", SIZES)
def test_initial_weights_come_from_the_seed(name: str) -> None:
    assert all((a == b).all() for a, b in zip(weights_of(name), weights_of(name), strict=True))
    assert any((a != b).any() for a, b in zip(weights_of(name), weights_of(name, 1), strict=True))


def textbook(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, padding: str) -> tf.Tensor:
    return tf.nn.max_pool2d(tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, padding), bias)), 2, 2, "VALID")


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize("size", [(28, 28), (9, 11)])
@pytest.mark.parametrize("ties", [False, True])
def test_layer_is_the_textbook_one(padding: str, size: tuple[int, int], ties: bool) -> None:
    """Values to the bit, gradients to rounding (the bias's sum has another order), also where maxima are equal."""
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (4, *size, 2)).astype(np.float32) / 255
    if ties:
        images[:, : size[0] // 2] = 0.0
        images[:, size[0] // 2 :] = 1.0
    kernel = rng.normal(size=(3, 3, 2, 5)).astype(np.float32)
    bias = rng.normal(size=5).astype(np.float32)
    results = []
    for layer in (convolve_relu_pool, textbook):

        @tf.function
        def both(x: tf.Tensor, k: tf.Tensor, b: tf.Tensor, layer=layer) -> tuple:  # type: ignore[no-untyped-def]
            with tf.GradientTape() as tape:
                tape.watch([x, k, b])
                y = layer(x, k, b, padding)
                loss = tf.reduce_sum(tf.sin(3.0 * y))
            return y, tape.gradient(loss, [x, k, b])

        results.append(both(images, kernel, bias))
    (ours, our_gradients), (theirs, their_gradients) = results
    np.testing.assert_array_equal(ours, theirs)
    for a, b in zip(our_gradients, their_gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_weights_file_round_trip(tmp_path: Path) -> None:
    spec, weights = spec_of("baseline_cnn"), weights_of("baseline_cnn")
    models.save_weights(tmp_path / "a", spec, weights)
    models.save_weights(tmp_path / "b", spec, weights)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    loaded_spec, loaded = models.load_weights(tmp_path / "a")
    assert loaded_spec == spec and all((a == b).all() for a, b in zip(loaded, weights, strict=True))


@pytest.mark.parametrize("damage", [lambda c: c[:-1], lambda c: c[:5], lambda c: b"nonsense" + c, lambda _: b""])
def test_damaged_weights_file_is_named(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "weights.safetensors"
    models.save_weights(path, spec_of("baseline_cnn"), weights_of("baseline_cnn"))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(PipelineError, match=r"weights.safetensors is not a file of weights"):
        models.load_weights(path)
    with pytest.raises(PipelineError, match="is missing: run the train stage first"):
        models.load_weights(tmp_path / "nowhere")


@pytest.mark.parametrize("name", SIZES)
def test_predictor_gives_probabilities(name: str) -> None:
    predict = models.predictor(spec_of(name), weights_of(name))
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), np.uint8)
    np.testing.assert_allclose(predict(images).sum(axis=1), 1, rtol=1e-5)
    assert predict(images).shape == (3, 10) and predict(images[:0]).shape == (0, 10)


SHAPES = [(4, 4, 1), (5, 7, 3), (8, 8, 1), (32, 32, 3), (64, 64, 3)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", SIZES)
def test_any_image_size_and_number_of_classes(name: str, shape: tuple[int, int, int], tmp_path: Path) -> None:
    """Forward and backward, down to 4 x 4: every weight that feeds an output gets a finite gradient."""
    spec = models.ModelSpec(name, shape, 62)
    rng = np.random.default_rng(5)
    weights = models.initial_weights(spec, rng)
    images = rng.integers(0, 256, (3, *shape), np.uint8)

    @tf.function
    def gradients(*w: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(w)
            logits = models.architecture(spec).forward(list(w), models.scale(images))
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(tf.constant([0, 30, 61]), logits))
        return tape.gradient(loss, list(w))

    for weight, gradient in zip(weights, gradients(*map(tf.constant, weights)), strict=True):
        assert gradient.shape == weight.shape and np.isfinite(gradient).all() and np.any(gradient)
    models.save_weights(tmp_path / "w", spec, weights)
    assert models.load_weights(tmp_path / "w")[0] == spec
    assert models.classifier(spec, weights)(images).shape == (3, 62)


@pytest.mark.parametrize(("name", "shape"), [("baseline_cnn", (3, 28, 1)), ("mcmahan_cnn", (28, 3, 3))])
def test_images_that_are_too_small_are_refused(name: str, shape: tuple[int, int, int]) -> None:
    with pytest.raises(PipelineError, match=f"'train.model' is {name}, which takes images of at least 4 x 4 pixels"):
        models.architecture(models.ModelSpec(name, shape, 10))
    assert models.architecture(models.ModelSpec("mcmahan_2nn", shape, 10))
