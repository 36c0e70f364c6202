"""First weights, forward passes that give probabilities, and dropout."""

import numpy as np
import pytest
import tensorflow as tf

from fedpipe.contracts.model import MODELS
from fedpipe.networks.dropout import Dropout
from fedpipe.networks.network import Network, Weights, network
from fedpipe.networks.spec import ModelSpec


def model_of(name: str) -> Network:
    return network(ModelSpec(name, (28, 28, 1), 10))


def weights_of(name: str, seed: int = 0) -> Weights:
    return model_of(name).first_weights(np.random.default_rng(seed))


@pytest.mark.parametrize("name", [name for name in MODELS.names if name not in ("keras_file", "bag_of_tokens")])
def test_first_weights_come_from_the_seed(name: str) -> None:
    assert all((a == b).all() for a, b in zip(weights_of(name), weights_of(name), strict=True))
    assert any((a != b).any() for a, b in zip(weights_of(name), weights_of(name, 1), strict=True))


def test_first_weights_are_glorots() -> None:
    """Kernels fill U(-limit, limit), biases are 0."""
    kernel, bias, dense, _ = weights_of("baseline_cnn")
    for values, fan in ((kernel, 9 * (1 + 32)), (dense, 5408 + 10)):
        limit = np.sqrt(6 / fan)
        assert 0.95 * limit < np.abs(values).max() <= limit and abs(values.std() / limit - 3**-0.5) < 0.05
    assert not bias.any()


@pytest.mark.parametrize("name", [name for name in MODELS.names if name not in ("keras_file", "bag_of_tokens")])
def test_predictor_gives_probabilities(name: str) -> None:
    predict = model_of(name).predictor(weights_of(name))
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), np.uint8)
    np.testing.assert_allclose(predict(images).sum(axis=1), 1, rtol=1e-5)
    assert predict(images).shape == (3, 10) and predict(images[:0]).shape == (0, 10)


def test_dropout_keeps_the_expectation() -> None:
    """A unit is 0 with the rate's probability, else scaled up, so that its mean stays."""
    units = tf.fill([400, 500], 3.0)
    for rate in (0.1, 0.5, 0.9):
        left = Dropout(tf.constant([1, 2]))(units, rate).numpy()
        assert set(np.unique(left)) == {np.float32(0), np.float32(3.0) / np.float32(1 - rate)}
        deviation = np.sqrt(rate * (1 - rate) / left.size)
        assert abs((left == 0).mean() - rate) < 5 * deviation
        assert abs(left.mean() - 3.0) < 5 * 3.0 * deviation / (1 - rate)


def test_dropout_is_a_function_of_the_seed_and_the_layer() -> None:
    units = tf.ones([20, 30])

    def two_layers(seed: list[int]) -> tuple[bytes, bytes]:
        dropout = Dropout(tf.constant(seed))
        return dropout(units, 0.5).numpy().tobytes(), dropout(units, 0.5).numpy().tobytes()

    assert two_layers([1, 2]) == two_layers([1, 2])
    assert len({*two_layers([1, 2]), *two_layers([1, 3])}) == 4


def test_dropout_is_off_in_evaluation() -> None:
    units = tf.random.stateless_normal([20, 30], [1, 2])
    assert Dropout()(units, 0.5) is units
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), np.uint8)
    weights = weights_of("mcmahan_cnn")
    dropped = network(ModelSpec("mcmahan_cnn", (28, 28, 1), 10, MODELS.of("mcmahan_cnn").Params(dropout=0.5)))
    assert (dropped.classifier(weights)(images) == model_of("mcmahan_cnn").classifier(weights)(images)).all()
