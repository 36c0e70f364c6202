"""The pooled convolution against TensorFlow's own layers."""

import numpy as np
import pytest
import tensorflow as tf

from fedpipe.networks.layers import convolve_relu_pool


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
