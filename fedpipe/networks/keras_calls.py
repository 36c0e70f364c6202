"""The calls of layers that a Keras model is made of: their order, and which two of them run as one.

Keras calls them nodes: one layer may have several, and a model may be a layer of another.
"""

from collections.abc import Iterator
from typing import Any

from fedpipe.lazy import tf


def in_order(model: Any) -> list[Any]:
    """The calls of layers between the model's input and its output, each after those it needs."""
    nodes = [node for layer in model.layers for node in layer.inbound_nodes if not node.is_input]
    by_output = {key: node for node in nodes for key in node.flat_output_ids}
    ordered: list[Any] = []

    def visit(key: str) -> None:
        node = by_output.get(key)
        if node is None or node in ordered:
            return
        for needed in node.flat_input_ids:
            visit(needed)
        ordered.append(node)

    visit(str(id(model.outputs[0])))
    return ordered


def distinct(model: Any, nodes: dict[int, list[Any]]) -> Iterator[Any]:
    """Every layer that is no model itself, once, in the order in which they run."""
    seen: set[int] = set()
    for node in nodes[id(model)]:
        inner = distinct(node.layer, nodes) if isinstance(node.layer, tf.keras.Model) else [node.layer]
        for layer in inner:
            if id(layer) not in seen:
                seen.add(id(layer))
                yield layer


def fused(nodes: list[Any]) -> Iterator[tuple[int, Any]]:
    """Convolutions with relu whose only reader is a 2x2 max pooling: the id of the one call, and the other call."""
    for node in nodes:
        if not _convolves_with_relu(node.layer):
            continue
        readers = [other for other in nodes if node.flat_output_ids[0] in other.flat_input_ids]
        if len(readers) == 1 and pools_two_by_two(readers[0].layer):
            yield id(node), readers[0]


def _convolves_with_relu(layer: Any) -> bool:
    return (
        type(layer) is tf.keras.layers.Conv2D
        and layer.activation in (tf.keras.activations.relu, tf.nn.relu)
        and layer.strides == (1, 1)
        and layer.dilation_rate == (1, 1)
        and layer.groups == 1
        and layer.use_bias
        and layer.data_format == "channels_last"
        and layer.padding in ("valid", "same")
    )


def pools_two_by_two(layer: Any) -> bool:
    """Whether a layer is the max pooling that `fedpipe.networks.layers` has."""
    if type(layer) is not tf.keras.layers.MaxPooling2D:
        return False
    square = tuple(layer.pool_size) == (2, 2) and tuple(layer.strides) == (2, 2)
    return square and layer.padding == "valid" and layer.data_format == "channels_last"
