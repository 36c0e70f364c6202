"""Every model of the folder: its number of weights, any image size and number of classes, refusals."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from fedpipe.contracts.model import MODELS
from fedpipe.errors import PipelineError
from fedpipe.networks.dropout import Dropout
from fedpipe.networks.network import Network, network, scale
from fedpipe.networks.spec import ModelSpec
from fedpipe.networks.weights import load_weights, save_weights

# The numbers that the papers name, or that one can work out from them: weights for 28x28 gray images of ten classes.
SIZES = {
    "baseline_cnn": 54_410,
    "mcmahan_2nn": 199_210,
    "mcmahan_cnn": 1_663_370,
    "niid_cnn": 44_426,
    "logistic_regression": 7_850,
    "linear_regression": 7_850,
    "mlp": 784 * 64 + 64 + 64 * 32 + 32 + 330,
}


def model_of(name: str, shape: tuple[int, int, int] = (28, 28, 1), classes: int = 10) -> Network:
    return network(ModelSpec(name, shape, classes))


def smallest(name: str) -> int:
    return MODELS.of(name).SMALLEST_SIDE


def test_every_model_is_here() -> None:
    assert {*SIZES, "keras_cnn", "keras_file", "bag_of_tokens"} == set(MODELS.names)


@pytest.mark.parametrize("name", SIZES)
def test_number_of_weights(name: str) -> None:
    assert model_of(name).parameters == SIZES[name]


@pytest.mark.parametrize(
    ("name", "weights"),
    [  # 32x32 colour images of ten classes, as CIFAR-10's
        ("baseline_cnn", 27 * 32 + 32 + 15 * 15 * 32 * 10 + 10),
        ("mcmahan_2nn", 3072 * 200 + 200 + 200 * 200 + 200 + 2010),
        ("mcmahan_cnn", 75 * 32 + 32 + 25 * 32 * 64 + 64 + 8 * 8 * 64 * 512 + 512 + 5130),
        ("niid_cnn", 62_006),  # LeNet-5's, as often quoted
        ("logistic_regression", 30_730),
    ],
)
def test_number_of_weights_for_colour_images(name: str, weights: int) -> None:
    assert model_of(name, (32, 32, 3)).parameters == weights


@pytest.mark.parametrize("shape", ["smallest", (17, 23, 3), (32, 32, 3), (64, 64, 3)])
@pytest.mark.parametrize("name", SIZES)
def test_any_image_size_and_number_of_classes(name: str, shape: tuple | str, tmp_path: Path) -> None:
    """Forward and backward, down to the smallest side: every weight that feeds an output gets a finite gradient."""
    if isinstance(shape, str):
        shape = (smallest(name), smallest(name) + 1, 2)
    model = model_of(name, shape, 62)
    rng = np.random.default_rng(5)
    weights = model.first_weights(rng)
    images = rng.integers(0, 256, (40, *shape), np.uint8)
    labels = np.arange(40, dtype=np.int32)

    @tf.function
    def gradients(*w: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(w)
            loss = tf.reduce_mean(model.losses(labels, model.forward(list(w), scale(images), Dropout())))
        return tape.gradient(loss, list(w))

    for weight, gradient in zip(weights, gradients(*map(tf.constant, weights)), strict=True):
        assert gradient.shape == weight.shape and np.isfinite(gradient).all() and np.any(gradient)
    save_weights(tmp_path / "w", model, weights)
    assert load_weights(tmp_path / "w")[0].spec == model.spec
    assert model.classifier(weights)(images).shape == (40, 62)


@pytest.mark.parametrize("name", [name for name in SIZES if smallest(name) > 1])
def test_images_that_are_too_small_are_refused(name: str) -> None:
    side = smallest(name)
    message = f"'train.model' is {name}, which takes images of at least {side} x {side} pixels, but the data set's are "
    for shape in ((side - 1, 28, 1), (28, side - 1, 3)):
        with pytest.raises(PipelineError, match=message + f"{shape[0]} x {shape[1]}"):
            model_of(name, shape)
        assert model_of("mcmahan_2nn", shape) and model_of("logistic_regression", shape)


@pytest.mark.parametrize("name", [name for name in SIZES if smallest(name) > 1])
def test_one_pixel_less_leaves_nothing(name: str) -> None:
    """So the smallest side is not larger than it must be."""
    side = smallest(name) - 1
    shapes = MODELS.of(name).shapes(ModelSpec(name, (side, side, 1), 10))
    assert any(0 in shape for shape in shapes.values())
