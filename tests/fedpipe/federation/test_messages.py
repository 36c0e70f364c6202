"""Messages: what is packed is unpacked, and bytes of anybody else are refused with a PipelineError."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from safetensors.numpy import save

from fedpipe.errors import PipelineError
from fedpipe.federation.messages import Answer, Join, Kept, pack, shared_digest, unpack_answer, unpack_question

NAME = "0123456789abcdef"
TYPES = st.sampled_from([np.float32, np.float64, np.int32, np.int64, np.uint8, np.bool_])


@given(st.lists(arrays_of.arrays(TYPES, arrays_of.array_shapes(min_dims=0, max_dims=3, max_side=3)), max_size=4))
def test_round_trip(arrays: list[np.ndarray]) -> None:
    content = pack(Kept(training=NAME), arrays)
    message, unpacked = unpack_question(content)
    assert message == Kept(training=NAME) and pack(message, unpacked) == content
    assert [(each.dtype, each.shape, each.tobytes()) for each in unpacked] == [
        (each.dtype, each.shape, each.tobytes()) for each in arrays
    ]


def test_secure_sums_are_bound_to_what_all_sites_are_asked_alike() -> None:
    join = Join(
        site="a",
        sites=3,
        training=NAME,
        settings={"rounds": 3, "local_epochs": 1},
        facts={},
        image_shape=[8, 8, 1],
        classes=10,
        clients=12,
        first=0,
        digest="0" * 64,
    )
    digest = shared_digest(join)
    for own in ({"site": "b"}, {"first": 3}, {"digest": "1" * 64}, {"settings": {"rounds": 9, "local_epochs": 1}}):
        assert shared_digest(join.model_copy(update=own)) == digest
    for common in ({"settings": {"rounds": 3, "local_epochs": 2}}, {"clients": 13}, {"sites": 4}, {"classes": 9}):
        assert shared_digest(join.model_copy(update=common)) != digest


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(PipelineError, match="a message that cannot be read"):
        unpack_question(content)


@given(st.data())
def test_changed_bytes_are_refused_or_another_message(data: st.DataObject) -> None:
    content = bytearray(pack(Answer(refused=["no"]), [np.arange(6, dtype=np.int32), np.ones((2, 2), np.float32)]))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        message, arrays = unpack_answer(bytes(content))
    except PipelineError:
        return
    assert isinstance(message, Answer) and len(arrays) == 2


def with_head(head: object, **arrays: np.ndarray) -> bytes:
    named = arrays or {"000000": np.zeros(1, np.int32)}
    return bytes(save(named, {"fedpipe": head if isinstance(head, str) else json.dumps(head)}))


@pytest.mark.parametrize(
    ("content", "mistake"),
    [
        (with_head({"kind": "run", "code": "..."}), "run"),
        (with_head({"kind": "kept", "training": NAME, "code": "..."}), "code: Extra inputs"),
        (with_head({"kind": "kept", "training": "../../etc"}), "training: String should match"),
        (with_head({"kind": "kept"}), "training: Field required"),
        (with_head("[" * 100_000), "cannot be read"),
        (with_head({"kind": "kept", "training": NAME}, other=np.zeros(1, np.int32)), "other names"),
        (with_head({"kind": "kept", "training": NAME}, **{"000000": np.zeros(1, np.float16)}), "a type that no"),
        ((2**40).to_bytes(8, "little") + b"{}", "its head has"),
        (pack(Answer()), "cannot be read"),
    ],
)
def test_what_is_no_question_is_named(content: bytes, mistake: str) -> None:
    with pytest.raises(PipelineError, match=mistake):
        unpack_question(content)
