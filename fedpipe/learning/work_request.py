"""A client's work request: which client works in a round, how much, and for whom.

All clients do both, train and report, but in asynchronous training, where an update may reach the server rounds after
its training: then a round has requests to train and requests to report.
"""

from typing import Any, NamedTuple

import numpy as np

from fedpipe.lazy import tf

WHOLE = 1000  # thousandths: all of a client's local steps
_TRAINS, _REPORTS = 1, 2  # bits of the last column


class WorkRequest(NamedTuple):
    """The requests of a round, of which each field is an array [n]; or that of one client in a graph, with scalars.

    Workers get the requests of a round as one array int32 [n, 4], which `pack` makes and `unpack` reads.
    """

    id: Any  # int32
    last_round: Any  # int32: the round of the client's last state; -1 if it has none
    work: Any  # int32: how much of its local steps it takes, in thousandths
    trains: Any  # bool
    reports: Any  # bool: whether the server gets its update in this round

    @classmethod
    def of(
        cls, clients: Any, last_round: Any = -1, work: Any = WHOLE, trains: Any = True, reports: Any = True
    ) -> "WorkRequest":
        """Requests to ``clients``, ids [n]; the others are [n], or the same for all."""
        ids = np.asarray(clients, np.int32)
        return cls(ids, *(np.broadcast_to(column, ids.shape) for column in (last_round, work, trains, reports)))

    def pack(self) -> np.ndarray:
        """The requests of a round as int32 [n, 4]."""
        bits = _TRAINS * self.trains + _REPORTS * self.reports
        return np.stack([self.id, self.last_round, self.work, bits], axis=1).astype(np.int32)

    @classmethod
    def unpack(cls, packed: Any) -> "WorkRequest":
        """The request of one client, from a tensor int32 [4]."""
        bits = packed[3]
        trains, reports = (tf.bitwise.bitwise_and(bits, bit) > 0 for bit in (_TRAINS, _REPORTS))
        return cls(packed[0], packed[1], packed[2], trains, reports)

    @classmethod
    def spec(cls) -> Any:
        """Of what `unpack` takes."""
        return tf.TensorSpec([4], tf.int32)
