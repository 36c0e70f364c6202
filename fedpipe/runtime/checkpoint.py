"""A checkpoint and its file: safetensors with all that a round leaves to the next one.

It holds each leaf of the server's state, the records so far, the best weights so far, and which files of the clients'
state belong to it. Its one JSON key of metadata holds a digest of everything else, by which damage is noticed, and the
key of the training (training_key.py).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from fedpipe.config.train import Dropout, Train
from fedpipe.networks.network import Weights
from fedpipe.runtime.records import RoundRecord
from fedpipe.runtime.training_key import Key

_METADATA_KEY = "fedpipe"  # one key only: safetensors does not keep the order of several


class Best(NamedTuple):
    """The weights of the best round so far."""

    score: float  # the accuracy on the samples of `train.selection`
    round: int
    weights: Weights


@dataclass(frozen=True)
class Checkpoint:
    """A training after a round."""

    records: list[RoundRecord]  # of all rounds so far
    seconds: list[float]  # that each of them took
    state: list[np.ndarray]  # the leaves of the server's state
    best: Best | None = None  # with 'train.keep_best'
    last: np.ndarray | None = None  # int32 [clients]: the round in which each client last kept something, or -1
    digests: np.ndarray | None = None  # uint8 [clients, 32]: SHA-256 of the client's state of then
    dropouts: list[Dropout] = field(default_factory=list)  # of sites, in all rounds so far
    client_rows: list[np.ndarray] = field(default_factory=list)  # of each round, with 'train.client_rounds'
    tracking: Mapping[str, str] = field(default_factory=dict)  # which run of MLflow it is

    @property
    def round(self) -> int:
        """The round after which this is."""
        return len(self.records)

    def is_one_of(self, settings: Train) -> bool:
        """Whether a training of ``settings.rounds`` rounds passes through this; others are taken to be the same.

        The last round is evaluated whatever its number, so what was the last round may not be one on the way.
        """
        every, last = settings.evaluate_every, self.records[-1]
        evaluated = bool(every) and (self.round % every == 0 or self.round == settings.rounds)
        return self.round <= settings.rounds and evaluated == last.is_evaluated


def to_bytes(checkpoint: Checkpoint, key: Key) -> bytes:
    """The content of the file."""
    tensors = {f"state.{index:04d}": leaf for index, leaf in enumerate(checkpoint.state)}
    best: list[Any] | None = None
    if checkpoint.best is not None:
        *best, weights = checkpoint.best
        tensors |= {f"best.{index:04d}": weight for index, weight in enumerate(weights)}
    if checkpoint.last is not None and checkpoint.digests is not None:
        tensors |= {"kept.last": checkpoint.last, "kept.digests": checkpoint.digests}
    if checkpoint.client_rows:
        tensors["rows.all"] = np.concatenate(checkpoint.client_rows)
    content: dict[str, Any] = {
        "key": key,
        "records": [asdict(record) for record in checkpoint.records],
        "seconds": checkpoint.seconds,
        "best": best,
        "dropouts": [dropout.model_dump() for dropout in checkpoint.dropouts],
        "tracking": dict(checkpoint.tracking),
    }
    content["digest"] = _digest(tensors, content)
    return save({name: np.asarray(tensor) for name, tensor in tensors.items()}, {_METADATA_KEY: json.dumps(content)})


def from_file(path: Path) -> tuple[Checkpoint, Key]:
    """A checkpoint and its training's key. Raises, if it is damaged: SafetensorError, KeyError, ValueError, ..."""
    with safe_open(str(path), framework="numpy") as file:
        content = json.loads(file.metadata()[_METADATA_KEY])
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    digest = content.pop("digest")
    if digest != _digest(tensors, content):
        raise ValueError("the digest is of another content")

    def named(kind: str) -> list[np.ndarray]:
        return [tensor for name, tensor in tensors.items() if name.startswith(f"{kind}.")]

    best = content["best"]
    checkpoint = Checkpoint(
        records=[RoundRecord(**record) for record in content["records"]],
        seconds=content["seconds"],
        state=named("state"),
        best=None if best is None else Best(best[0], best[1], named("best")),
        last=tensors.get("kept.last"),
        digests=tensors.get("kept.digests"),
        dropouts=[Dropout(**dropout) for dropout in content["dropouts"]],
        client_rows=named("rows"),
        tracking=content["tracking"],
    )
    return checkpoint, content["key"]


def _digest(tensors: Mapping[str, np.ndarray], content: Mapping[str, Any]) -> str:
    """A SHA-256 over tensors and metadata."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = np.asarray(tensors[name])
        digest.update(f"{name} {tensor.dtype.str} {tensor.shape}\n".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()
