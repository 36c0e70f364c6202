"""Work requests arrive at a client's graph as they were made."""

import numpy as np
import tensorflow as tf

from fedpipe.learning.work_request import WHOLE, WorkRequest


def test_a_graph_reads_each_field_of_a_packed_request() -> None:
    made = WorkRequest.of([7, 3, 3], [-1, 2, 9], [WHOLE, 500, 1], [True, False, True], [True, True, False])
    packed = made.pack()
    assert packed.dtype == np.int32 and packed.shape == (3, *WorkRequest.spec().shape)
    read = tf.function(WorkRequest.unpack, input_signature=[WorkRequest.spec()])
    for row, *fields in zip(packed, *made, strict=True):
        assert [leaf.numpy() for leaf in read(row)] == fields


def test_clients_do_all_of_their_work_unless_said_otherwise() -> None:
    made = WorkRequest.of(range(2))
    assert [column.tolist() for column in made] == [[0, 1], [-1, -1], [1000, 1000], [True, True], [True, True]]
    assert WorkRequest.of([]).pack().shape == (0, 4)
