"""What decides a machine's bits; a machine whose facts are not the driver's computes something else and is refused."""

import hashlib
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from fedpipe import code as lists
from fedpipe.code import PACKAGE, chosen_code, code_digest
from fedpipe.config.train import Train
from fedpipe.pinning import PINNED

Facts = dict[str, str]  # name -> version, value or digest

_ROOT = PACKAGE.parent
LIBRARIES = _ROOT / "libraries.lock"
_LOCK = _ROOT / "requirements.lock"


class Around(NamedTuple):
    """What runs around a training on a machine that has clients only."""

    code: Sequence[str]  # paths below fedpipe/
    packages: Sequence[str]


CLUSTER = Around(lists.CLUSTER, ("dask", "distributed"))
FEDERATION = Around(lists.FEDERATION, ("safetensors",))


def facts(settings: Train, around: Around) -> Facts:
    """The facts of this machine that matter to a training."""
    lines = LIBRARIES.read_text(encoding="utf-8").splitlines() if LIBRARIES.exists() else []
    names = [line.partition("==")[0] for line in lines if "==" in line]
    return {
        "code of training": code_digest(chosen_code(settings)),
        f"code of fedpipe/{{{','.join(around.code)}}}": code_digest(around.code),
        "requirements.lock": hashlib.sha256(_LOCK.read_bytes()).hexdigest() if _LOCK.exists() else "not there",
        "Python": platform.python_version(),
        **{f"package {name}": _version(name) for name in (*names, *around.packages)},
        **{f"environment variable {name}": os.environ.get(name, "not set") for name in PINNED},
    }


def code() -> str:
    """The digest of all code of fedpipe on this machine's disk; a process that started with another runs other code."""
    return code_digest([""])


def differences(driver: Facts, worker: Facts) -> list[str]:
    """One phrase for each fact that differs."""
    phrases = []
    for name in sorted({*driver, *worker}):
        ours, theirs = driver.get(name, "not there"), worker.get(name, "not there")
        if ours != theirs:
            phrases.append(f"{name} ({_short(theirs)}, here {_short(ours)})")
    return phrases


def _short(value: str) -> str:
    return value[:12] if len(value) == 64 else value


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
