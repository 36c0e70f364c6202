"""The accumulator of a pass: its sums, and the updates where an aggregator needs all of them."""

from collections.abc import Callable
from typing import Any

from fedpipe.contracts.aggregator import Aggregator
from fedpipe.lazy import tf
from fedpipe.learning.client_work import Accumulator
from fedpipe.learning.interface import Nothing
from fedpipe.learning.structure import Structure, flat


class Sums:
    """The accumulators of a pass: all is summed but the updates, which an aggregator may merge in another way.

    An aggregator with ``COLLECTS`` has them stacked, a row per client, as rows of clients are.
    """

    def __init__(self, aggregator: Aggregator, contribution: Accumulator) -> None:
        """``contribution``: the tensors or specs of a client's accumulator."""
        self._stacks, self._merge = aggregator.COLLECTS, aggregator.merge
        stacked = tf.nest.map_structure(
            lambda t: tf.TensorSpec([None, *t.shape[1:]], t.dtype), self._stacked(contribution)
        )
        self.structure = Structure(contribution._replace(**stacked))

    def _stacked(self, accumulator: Accumulator) -> dict[str, Any]:
        """The fields whose tensors are stacked."""
        return {**({"update": accumulator.update} if self._stacks else {}), "rows": accumulator.rows}

    def zero(self) -> Accumulator:
        """The sum over nobody."""

        def zeros(spec: Any) -> Any:
            made = tf.zeros([side or 0 for side in spec.shape], spec.dtype)
            # No rows yet, of an unknown number: TFF compares static shapes.
            return made if spec.shape.is_fully_defined() else tf.compat.v1.placeholder_with_default(made, spec.shape)

        accumulator: Accumulator = self.structure.pack([zeros(spec) for spec in self.structure.signature])
        return accumulator

    def merged(self, a: Accumulator, b: Accumulator) -> Accumulator:
        """The sum of two."""

        def stack(x: Any, y: Any) -> Any:
            return tf.concat([x, y], 0)

        join = stack if self._stacks else self._merge
        update, rows = (
            tf.nest.map_structure(join, a.update, b.update),
            tf.nest.map_structure(stack, a.rows, b.rows),
        )
        summed, other = (each._replace(update=Nothing, rows=Nothing) for each in (a, b))
        added: Accumulator = tf.nest.map_structure(tf.add, summed, other)
        return added._replace(update=update, rows=rows)

    def over(self, clients: Any, contribution_of: Callable[[Any], Accumulator]) -> tuple[Any, ...]:
        """The leaves of the sum of ``contribution_of(index)`` over a group of ``clients``, one after the other."""
        structure = self.structure
        # Rows are stacked once the group is whole: stacked one by one, each would copy all before it.
        rows = flat(self._stacked(structure.specs))
        arrays = [tf.TensorArray(row.dtype, clients, infer_shape=False, element_shape=row.shape) for row in rows]

        def body(index: Any, arrays: list[Any], *so_far: Any) -> tuple[Any, ...]:
            before, new = structure.pack(so_far), contribution_of(index)
            parts = flat(self._stacked(new))
            arrays = [array.write(index, part) for array, part in zip(arrays, parts, strict=True)]
            new = new._replace(**self._stacked(before))  # no rows
            added = zip(flat(self.merged(before, new)), structure.signature, strict=True)
            return index + 1, arrays, *(tf.ensure_shape(leaf, spec.shape) for leaf, spec in added)

        _, arrays, *leaves = tf.while_loop(
            lambda index, *_: index < clients,
            body,
            (tf.constant(0), arrays, *flat(self.zero())),
            shape_invariants=(
                tf.TensorShape([]),
                [tf.TensorShape(None) for _ in arrays],
                *(spec.shape for spec in structure.signature),
            ),
            parallel_iterations=1,
        )
        if not rows:
            return tuple(leaves)
        parts = [tf.ensure_shape(array.concat(), row.shape) for array, row in zip(arrays, rows, strict=True)]
        stacked = tf.nest.pack_sequence_as(self._stacked(structure.specs), parts)
        return flat(structure.pack(leaves)._replace(**stacked))
