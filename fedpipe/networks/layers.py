"""Layers as functions of weights, where TensorFlow's own are not fast or not certain enough.

TensorFlow's kernel for the gradient of max pooling takes half of an SGD step of `baseline_cnn`;
oneDNN's takes a fraction. TensorFlow swaps the one for the other in a graph pass, but only where it
meets the forward op first, and inside a loop that is a matter of chance, so that one program has two speeds.
Here the graph names oneDNN's kernels itself: fast in every process, and the same bits. Graphs for other runtimes have
TensorFlow's own ops (`plain_ops`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from fedpipe.lazy import tf

Tensor = Any  # tf.Tensor, which is not imported here

_POOL = 2  # every model of the zoo pools 2x2 with stride 2
_is_plain = ContextVar("_is_plain", default=False)


@contextmanager
def plain_ops() -> Iterator[None]:
    """Graphs that are traced in it have TensorFlow's own ops only, which other runtimes know; for forward passes."""
    token = _is_plain.set(True)
    try:
        yield
    finally:
        _is_plain.reset(token)


def convolve_relu_pool(images: Tensor, kernel: Tensor, bias: Tensor, padding: str) -> Tensor:
    """Convolution, bias, relu, 2x2 max pooling: float32 [n, h, w, c] -> [n, h', w', filters].

    The gradient is that of the textbook order, with less work: a pooled value is positive exactly where the
    pixel it came from is, so the relu's mask and the bias's sum are taken on the pooled quarter of the pixels.
    Of equal maxima the first takes the gradient, as in TensorFlow's own kernel.

    Args:
      images: float32 [n, height, width, channels].
      kernel: float32 [kh, kw, channels, filters].
      bias: float32 [filters].
      padding: Of the convolution, "VALID" or "SAME"; the pooling drops an odd last row and column.
    """
    if _is_plain.get():
        return max_pool(tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(images, kernel, 1, padding), bias)))

    @tf.custom_gradient
    def block(x, k, b):  # type: ignore[no-untyped-def]
        z = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, k, 1, padding), b))
        pooled, workspace = _max_pool(z)

        def gradient(upstream):  # type: ignore[no-untyped-def]
            upstream = tf.raw_ops.ReluGrad(gradients=upstream, features=pooled)
            dz = _max_pool_gradient(z, pooled, upstream, workspace)
            strides, common = [1, 1, 1, 1], {"padding": padding}
            dx = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(x), filter=k, out_backprop=dz, strides=strides, **common
            )
            dk = tf.raw_ops.Conv2DBackpropFilter(
                input=x, filter_sizes=k.shape, out_backprop=dz, strides=strides, **common
            )
            return dx, dk, tf.raw_ops.BiasAddGrad(out_backprop=upstream)

        return pooled, gradient

    return block(images, kernel, bias)


def max_pool(images: Tensor) -> Tensor:
    """2x2 max pooling: float32 [n, h, w, c] -> [n, h // 2, w // 2, c]; of equal maxima the first takes the gradient."""
    if _is_plain.get():
        return tf.nn.max_pool2d(images, _POOL, _POOL, "VALID")

    @tf.custom_gradient
    def pool(z):  # type: ignore[no-untyped-def]
        pooled, workspace = _max_pool(z)
        return pooled, lambda upstream: _max_pool_gradient(z, pooled, upstream, workspace)

    return pool(images)


def _max_pool(z: Tensor) -> tuple[Tensor, Tensor]:
    """oneDNN's max pooling: the pooled values and the workspace that its gradient wants."""
    pooled, workspace = _onednn("MaxPool", [z], [tf.float32, tf.uint8], explicit_paddings=_int_list([]))
    height, width = (None if side is None else side // _POOL for side in z.shape[1:3])
    pooled.set_shape([z.shape[0], height, width, z.shape[3]])
    return pooled, workspace


def _max_pool_gradient(z: Tensor, pooled: Tensor, upstream: Tensor, workspace: Tensor) -> Tensor:
    """oneDNN's gradient of max pooling with respect to ``z``."""
    (dz,) = _onednn("MaxPoolGrad", [z, pooled, upstream, workspace], [tf.float32])
    dz.set_shape(z.shape)
    return dz


def _int_list(values: list[int]) -> Any:
    return tf.compat.v1.AttrValue(list=tf.compat.v1.AttrValue.ListValue(i=values))


def _onednn(name: str, inputs: list[Tensor], dtypes: list[Any], **attributes: Any) -> list[Tensor]:
    """Adds oneDNN's op ``name`` to the graph being built, in the form that TensorFlow's own pass gives it."""
    value = tf.compat.v1.AttrValue
    window = _int_list([1, _POOL, _POOL, 1])
    attributes |= {
        "T": value(type=tf.float32.as_datatype_enum),
        "ksize": window,
        "strides": window,
        "padding": value(s=b"VALID"),
        "data_format": value(s=b"NHWC"),
        "workspace_enabled": value(b=True),
        "_kernel": value(s=b"MklNameChangeOp"),  # the label under which these kernels are registered
    }
    graph = tf.compat.v1.get_default_graph()
    op = graph.create_op(f"_MklNative{name}", inputs, dtypes, name=f"OneDnn{name}", attrs=attributes)
    return list(op.outputs)


def dense(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """A dense layer: float32 [n, inputs] -> [n, outputs]."""
    return tf.matmul(x, kernel) + bias


def dense_shapes(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights of `dense`."""
    return {f"{name}/kernel": (inputs, outputs), f"{name}/bias": (outputs,)}


def convolution_shapes(name: str, side: int, channels: int, filters: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights of a convolution with square kernels."""
    return {f"{name}/kernel": (side, side, channels, filters), f"{name}/bias": (filters,)}
