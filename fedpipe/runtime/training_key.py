"""The inputs that determine a training's bits, so that a checkpoint is resumed only where it leads to the same bits.

The number of rounds is not part of it, for a training of more rounds begins as one of fewer; unless the noise of each
round is computed from them (``train.privacy.epsilon``).
"""

import hashlib
import json
import platform
from collections.abc import Iterable
from typing import Any

import numpy as np

from fedpipe.code import chosen_code, code_digest
from fedpipe.config.choices import used
from fedpipe.config.train import Train
from fedpipe.datasets.shards import Manifest
from fedpipe.evaluation.global_model import GlobalSamples
from fedpipe.networks.network import Weights
from fedpipe.pinning import PINNED
from fedpipe.provenance import library_versions

Key = dict[str, Any]  # part -> its digest or its values, as JSON has them


def training_key(settings: Train, manifest: Manifest, first: Weights, measured: GlobalSamples | None) -> Key:
    """The key of a training that starts from the weights ``first`` and is ``measured`` on these samples, if it is."""
    return {
        "params": _params(settings),
        "shards": manifest.digest,
        "first weights": _digest(first),
        "evaluation samples": None if measured is None else _samples_digest(measured),
        "code": code_digest(chosen_code(settings)),
        "libraries": {"python": platform.python_version(), **library_versions(), **PINNED},
    }


def name_of(key: Key) -> str:
    """A short name of the training that has this key: 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def differences(key: Key, other: Key) -> list[str]:
    """The names of the parts in which two keys differ; those of single params among them."""
    if not isinstance(key.get("params"), dict) or not isinstance(other.get("params"), dict):
        return ["params"]
    names = sorted({*key, *other} - {"params"})
    params = sorted({*key["params"], *other["params"]})
    return [f"train.{name}" for name in params if key["params"].get(name) != other["params"].get(name)] + [
        name for name in names if key.get(name) != other.get(name)
    ]


def _params(settings: Train) -> dict[str, Any]:
    """The values that decide a round's result, as JSON has them."""
    values: dict[str, Any] = json.loads(json.dumps(used(settings)))
    if rounds_decide(settings) is None:
        del values["rounds"]
    return values


def rounds_decide(settings: Train) -> str | None:
    """Why a round depends on how many rounds follow it, in a few words; None if it does not."""
    if settings.privacy.epsilon is not None:
        return "the noise of 'train.privacy.epsilon' is computed from 'train.rounds'"
    for key in ("client_optimizer", "server_optimizer"):
        schedule = getattr(settings, key).schedule
        if schedule.follows_all_rounds:
            own = "every" if schedule.name == "step" else "rounds"
            return f"'train.{key}.schedule' {schedule.name} without '{own}' runs over all of 'train.rounds'"
    return None


def _samples_digest(measured: GlobalSamples) -> str:
    folders = measured.client_tests, measured.held_out
    of_clients = " ".join(Manifest.read(folder).digest if folder else "" for folder in folders).rstrip()
    parts = " ".join(f"{name} {_digest(arrays)}" for name, arrays in measured.parts.items())
    text = f"{parts} {of_clients} {measured.clients} {measured.held_out_clients} {measured.batch_size}"
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(arrays: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
