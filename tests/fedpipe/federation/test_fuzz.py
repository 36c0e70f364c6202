"""A fuzzer on the messages that arrive at either end: heads of safetensors and their JSON, changed in every place."""

import json
import random
import resource
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fedpipe.errors import PipelineError
from fedpipe.federation import messages
from fedpipe.federation.messages import (
    Answer,
    Describe,
    Join,
    Pass,
    SecureMeasure,
    pack,
    unpack_answer,
    unpack_question,
)
from fedpipe.samples.columns import Columns, NumberColumn
from fedpipe.samples.kind import Format

NAME, DIGEST = "0123456789abcdef", "0123456789abcdef" * 4
ARRAYS = [np.arange(6, dtype=np.int32), np.ones((2, 3), np.float32), np.zeros((0, 4), np.int32)]
JOIN: dict[str, Any] = {"site": "site-1", "sites": 3, "training": NAME, "settings": {"rounds": 3, "model": {"a": [1]}}}
JOIN |= {"facts": {"cpu": "x"}, "image_shape": [28, 28, 1], "classes": 10, "clients": 12, "first": 3, "digest": DIGEST}
COLUMNS = Columns(numbers=(NumberColumn(name="age", mean=50.0),), label=("ill",), classes=("no", "yes"))
QUESTIONS = [
    pack(Pass(training=NAME, process="training", number=0, chunks=[[1, 2], [3]], released=0), ARRAYS),
    pack(Join(**JOIN)),
    pack(Describe(samples=Format(samples="float32", columns=COLUMNS))),
    pack(SecureMeasure(spec={"model": "mlp"}, batch_size=5, digest=DIGEST, run=DIGEST, roster=DIGEST, sites=3), ARRAYS),
]
ANSWERS = [pack(Answer(refused=["no", "never"]), ARRAYS), pack(Answer(unknown=True))]
STRANGE: list[Any] = [0, -1, 2**31, 2**63, 2**64, 1e308, "", "x" * 1000, None, True, [], {}, [[]], "F32", "BF16", "I64"]
MB = 2**20


def changed(value: Any, generator: random.Random) -> Any:
    """JSON of which one part is another."""
    if isinstance(value, dict) and value and generator.random() < 0.9:
        key = generator.choice(sorted(value))
        if generator.random() < 0.1:
            return {each: part for each, part in value.items() if each != key}
        new = key if generator.random() < 0.9 else generator.choice([f"{key}x", "__metadata__", "000000", "kind"])
        return value | {new: changed(value[key], generator)}
    if isinstance(value, list) and value and generator.random() < 0.9:
        place = generator.randrange(len(value))
        return [*value[:place], changed(value[place], generator), *value[place + 1 :]]
    return generator.choice(STRANGE)


def mutated(content: bytes, generator: random.Random) -> bytes:
    """A message of which bytes, the file's head or the message's JSON are others."""
    way = generator.randrange(4)
    if way == 0:
        parts = bytearray(content)
        for _ in range(generator.randrange(1, 6)):
            parts[generator.randrange(len(parts))] = generator.randrange(256)
        return bytes(parts)
    if way == 1:
        start, end = sorted(generator.randrange(len(content) + 1) for _ in range(2))
        return content[:start] + generator.randbytes(generator.randrange(20)) + content[end:]
    size = int.from_bytes(content[:8], "little")
    head, rest = json.loads(content[8 : 8 + size]), content[8 + size :]
    if way == 2:
        head = changed(head, generator)
    else:
        message = json.loads(head["__metadata__"]["fedpipe"])
        head["__metadata__"]["fedpipe"] = json.dumps(changed(message, generator))
    text = json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + rest


def fuzz(seed: int, count: int) -> dict[str, int]:
    """How many mutated messages were read, and refused; anything else is raised."""
    generator, ended = random.Random(seed), {"read": 0, "refused": 0}
    readers: list[tuple[Callable[[bytes], Any], list[bytes]]] = [(unpack_question, QUESTIONS), (unpack_answer, ANSWERS)]
    for _ in range(count):
        read, corpus = generator.choice(readers)
        content = generator.choice(corpus)
        for _ in range(generator.randrange(1, 3)):
            try:
                content = mutated(content, generator)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                break  # it was none any more
        try:
            message, arrays = read(content)
        except PipelineError as error:
            assert str(error).startswith("a message that cannot be read: ") and len(str(error)) < 10_000
            ended["refused"] += 1
            continue
        assert isinstance(message, messages.Message)
        assert sum(array.nbytes for array in arrays) <= len(content)
        ended["read"] += 1
    return ended


def test_a_message_that_was_changed_is_read_or_refused() -> None:
    ended = fuzz(1, 4000)
    assert min(ended.values()) > 50


@pytest.mark.slow
def test_a_hundred_thousand_changed_messages_are_read_or_refused_in_little_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ended = fuzz(2, 100_000)
    assert min(ended.values()) > 1000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * MB // 1024
