"""Structures of tensors, flattened to tuples of tensors at the border to TFF."""

from collections.abc import Sequence
from typing import Any

from fedpipe.lazy import tf, tff


class Structure:
    """A structure of tensors, and the tuple of its leaves that TFF gets in its place."""

    def __init__(self, structure: Any) -> None:
        """``structure``: tensors or specs in any nesting of tuples, lists and dicts."""
        self.specs = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), structure)
        types = [tff.TensorType(leaf.dtype.as_numpy_dtype, leaf.shape) for leaf in self.signature]
        self.type = tff.StructWithPythonType(types, tuple)

    def pack(self, leaves: Sequence[Any]) -> Any:
        """The structure with ``leaves``."""
        return tf.nest.pack_sequence_as(self.specs, list(leaves))

    @property
    def signature(self) -> list[Any]:
        """The leaves' specs."""
        return list(tf.nest.flatten(self.specs))


def flat(structure: Any) -> tuple[Any, ...]:
    """The leaves of a structure."""
    return tuple(tf.nest.flatten(structure))
