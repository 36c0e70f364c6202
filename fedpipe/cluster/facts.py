"""What decides a machine's bits; a worker whose facts are not the driver's computes something else and is refused."""

import hashlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fedpipe.code import CLUSTER, PACKAGE, chosen_code, code_digest
from fedpipe.config.train import Train
from fedpipe.pinning import PINNED

Facts = dict[str, str]  # name -> version, value or digest

_ROOT = PACKAGE.parent
LIBRARIES = _ROOT / "libraries.lock"
_LOCK = _ROOT / "requirements.lock"
_OF_CLUSTER = ("dask", "distributed")


def facts(settings: Train) -> Facts:
    """The facts of this machine that matter to a training."""
    lines = LIBRARIES.read_text(encoding="utf-8").splitlines() if LIBRARIES.exists() else []
    names = [line.partition("==")[0] for line in lines if "==" in line]
    return {
        "code of training": code_digest(chosen_code(settings)),
        f"code of fedpipe/{{{','.join(CLUSTER)}}}": code_digest(CLUSTER),
        "requirements.lock": _digest(_LOCK),
        "Python": platform.python_version(),
        **{f"package {name}": _version(name) for name in (*names, *_OF_CLUSTER)},
        **{f"environment variable {name}": os.environ.get(name, "not set") for name in PINNED},
    }


def code() -> str:
    """The digest of all code of fedpipe on this machine's disk; a process that started with another runs other code."""
    return code_digest([""])


def differences(driver: Facts, worker: Facts) -> list[str]:
    """One phrase for each fact that differs."""
    found = []
    for name in sorted({*driver, *worker}):
        ours, theirs = driver.get(name, "not there"), worker.get(name, "not there")
        if ours != theirs:
            found.append(f"{name} ({_short(theirs)}, here {_short(ours)})")
    return found


def _short(value: str) -> str:
    return value[:12] if len(value) == 64 else value


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else "not there"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
