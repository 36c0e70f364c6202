"""The messages between a coordinator and its sites: a safetensors file in memory, with one JSON, and never code.

A question or an answer is a `Message` and arrays. All of it is checked before anything is done with it: sizes, the
JSON's fields and types, the arrays' names and types. Shapes are checked where they are known (`tff_executor.fitting`).
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedpipe.config.download import DatasetName
from fedpipe.errors import PipelineError
from fedpipe.federation.counts import Counts
from fedpipe.samples.kind import PIXELS, Format

VERSION = 3  # of the messages
LARGEST = 2**31 - 1  # bytes of a message
_LARGEST_HEAD = 2**20
_KEY = "fedpipe"
_TYPES = ("<f4", "<f8", "<i4", "<i8", "|u1", "|b1")

SITE_NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"  # also the name in its certificate
SiteName = Annotated[str, StringConstraints(pattern=SITE_NAME)]
Name = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]  # of a training (`training_key.name_of`)
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Few = Annotated[int, Field(ge=0, lt=2**31)]


class Message(BaseModel):
    """The JSON of a question or an answer; a field that is not declared is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Describe(Message):
    """Asks a site for its facts."""

    kind: Literal["describe"] = "describe"
    samples: Format | None = None  # of the coordinator's data set, to compare with


class Join(Message):
    """Asks a site to take part in a training: to check the training, and to build its graphs."""

    kind: Literal["join"] = "join"
    version: int = VERSION
    site: SiteName
    sites: _Few  # that take part
    training: Name
    settings: dict[str, Any]  # section train of params.yaml
    facts: dict[str, str]  # of the coordinator's machine
    image_shape: list[_Few]
    classes: _Few
    samples: Format = PIXELS  # of samples and labels
    clients: _Few  # of all sites
    first: _Few  # the id of the site's first client
    digest: Digest  # of the site's shards, with its own key
    wants_weights: bool = False  # whether the answer is to have the sum of its clients' weights
    run: Digest | None = None  # drawn for the secure sums of this training
    roster: Digest | None = None  # of their sites


def shared_digest(join: Join) -> bytes:
    """A digest, 32 bytes, of what all sites of a training must be asked alike; secure sums are bound to it.

    The number of rounds is not part of it, since a training of more rounds begins as one of fewer.
    """
    names = {"settings", "clients", "sites", "image_shape", "classes", "samples", "training"}
    fields = join.model_dump(mode="json", include=names)
    fields["settings"] = {key: value for key, value in fields["settings"].items() if key != "rounds"}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).digest()


class Ready(Message):
    """Asks a site to wait until its graphs are built."""

    kind: Literal["ready"] = "ready"
    training: Name


class Pass(Message):
    """Asks a site for sums over its clients. Arrays: the message's leaves, then int32 [n, 4] requests per chunk."""

    kind: Literal["pass"] = "pass"
    training: Name
    process: Literal["training", "losses"]  # losses: of each client (learning/loss_process.py)
    number: _Few  # of the pass
    chunks: list[Annotated[list[_Few], Field(min_length=1)]]  # the sizes of the groups of each chunk
    released: _Few  # files of clients that were superseded up to this round are not needed


class Secure(Message):
    """Asks a site for a step of a secure sum (fedpipe/secure_aggregation).

    Arrays: the step, uint8 [n]; and those of `Pass`, if the question has chunks.
    """

    kind: Literal["secure"] = "secure"
    training: Name
    chunks: list[Annotated[list[_Few], Field(min_length=1)]] = []  # as of `Pass`; none if it came before
    released: _Few

    def as_pass(self) -> Pass:
        """The question for sums, whose answer stays at the site."""
        return Pass(training=self.training, process="training", number=0, chunks=self.chunks, released=self.released)


class Kept(Message):
    """Asks a site for a digest of its clients' state. Array: int32 [own clients], the round of each one's file."""

    kind: Literal["kept"] = "kept"
    training: Name
    removes: _Few = 0  # files of later rounds up to this one do not count, and are removed there


class Personal(Message):
    """Asks a site to make its clients' personal models, which stay there.

    Arrays: the leaves of the server's state, then int32 [own clients], the round of each one's file.
    """

    kind: Literal["personal"] = "personal"
    training: Name


class Measure(Message):
    """Asks a site for figures of a model on its clients' samples. Arrays: the model's weights."""

    kind: Literal["measure"] = "measure"
    version: int = VERSION
    spec: dict[str, Any]  # `ModelSpec.to_json`
    batch_size: Annotated[int, Field(gt=0, lt=2**31)]  # samples per forward pass
    digest: Digest  # of the site's shards, with its own key


class SecureMeasure(Message):
    """Asks a site for a step of a secure sum of figures on held-out samples.

    Arrays: the step, uint8 [n]; then the model's weights, if the site may not have them.
    """

    kind: Literal["secure_measure"] = "secure_measure"
    version: int = VERSION
    spec: dict[str, Any]  # `ModelSpec.to_json`
    batch_size: Annotated[int, Field(gt=0, lt=2**31)]  # samples per forward pass
    digest: Digest  # of the site's shards, with its own key
    run: Digest  # drawn for this sum
    roster: Digest  # of the sites
    sites: _Few  # of the federation


class Answer(Message):
    """A site's answer, with arrays.

    Of `Pass` the sums' leaves, of `Secure` and `SecureMeasure` uint8 [n], of `Kept` uint8 [32] (zeros if a file is
    missing), of `Join` that wants it float64 [1], the sum of the weights.
    """

    kind: Literal["answer"] = "answer"
    refused: list[str] = []  # why the site does not answer
    unknown: bool = False  # the site does not know the training, for instance since it was started anew: let it join
    is_over: bool = False  # the attempt of a secure sum cannot be continued: begin another one


class Description(Message):
    """The answer to `Describe`. Array: int64 [own clients], how many samples each has, as ``counts`` says."""

    kind: Literal["description"] = "description"
    site: SiteName
    dataset: DatasetName
    image_shape: list[_Few]
    classes: _Few
    digest: Digest  # of its shards, with its own key
    counts: Counts
    differs: list[str] = []  # how samples or labels differ from those that the question has
    policy: dict[str, Any]  # the site's limits (policy.py)


class SumsOfSamples(Message):
    """A model on samples."""

    samples: _Few
    correct: float  # how many; of labels that are numbers, the sum of how right each answer is
    loss: float  # the sum over the samples


class Figures(Message):
    """The answer to `Measure`. Arrays for each of ``clients``: [own clients, 2], samples and correct ones.

    They are int64, or float64 where labels are numbers.
    """

    kind: Literal["figures"] = "figures"
    held_out: SumsOfSamples | None  # over the held-out samples of the site's clients
    because: str = ""  # why these sums are missing
    clients: list[Literal["train", "test"]] = []  # the samples of which the figures of each client follow


Question = Annotated[
    Describe | Join | Ready | Pass | Secure | Kept | Personal | Measure | SecureMeasure, Field(discriminator="kind")
]
_QUESTION: TypeAdapter[Question] = TypeAdapter(Question)
_ANSWER: TypeAdapter[Answer | Description | Figures] = TypeAdapter(
    Annotated[Answer | Description | Figures, Field(discriminator="kind")]
)


class Parcel(NamedTuple):
    """A message with its arrays."""

    message: Any
    arrays: list[np.ndarray]


def pack(message: Message, arrays: Sequence[np.ndarray] = ()) -> bytes:
    """The bytes of a message; the same message has the same bytes."""
    named = {f"{number:06d}": np.asarray(array, order="C") for number, array in enumerate(arrays)}
    return bytes(save(named, {_KEY: message.model_dump_json()}))


def unpack_question(content: bytes) -> Parcel:
    """The question in ``content``.

    Raises:
      PipelineError: It is no question.
    """
    return _unpacked(content, _QUESTION)


def unpack_answer(content: bytes) -> Parcel:
    """The answer in ``content``.

    Raises:
      PipelineError: It is no answer.
    """
    return _unpacked(content, _ANSWER)


def _unpacked(content: bytes, kind: TypeAdapter[Any]) -> Parcel:
    try:
        if len(content) > LARGEST:
            raise ValueError(f"it has {len(content):,} bytes")
        size = int.from_bytes(content[:8], "little")
        if size > _LARGEST_HEAD:
            raise ValueError(f"its head has {size:,} bytes")
        head = json.loads(content[8 : 8 + size])
        message = kind.validate_json(head["__metadata__"][_KEY])
        arrays = load(content)
        if sorted(arrays) != [f"{number:06d}" for number in range(len(arrays))]:
            raise ValueError("its arrays have other names")
        if any(array.dtype.str not in _TYPES for array in arrays.values()):
            raise ValueError("an array has a type that no message has")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise PipelineError(f"a message that cannot be read: {where}: {first['msg']}") from None
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise PipelineError(f"a message that cannot be read: {error}") from None
    return Parcel(message, [arrays[name] for name in sorted(arrays)])
