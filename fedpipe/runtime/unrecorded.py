"""A training that has ended, and whose outputs DVC has not recorded: `dvc` may die in between.

Then dvc.lock is as it was while the training ran, and the next `dvc repro` calls the stage again. A note says what was
trained and what came of it, so that nothing is trained twice. A dvc.lock that was written since makes it void.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from fedpipe.atomic import write_text
from fedpipe.runtime.training_key import Key

_LOCK = Path("dvc.lock")


class Note:
    """The note on the training that ended last in a folder.

    As a context manager around a training, it forgets the one before, and is written when the block ends without error.
    """

    def __init__(self, folder: Path, key: Key, rounds: int, outputs: Sequence[Path]) -> None:
        """The note in ``folder`` on the training of this key and so many rounds, which writes ``outputs``."""
        self._path = folder / "ended.json"
        self._trained = {"key": key, "rounds": rounds}
        self._outputs = outputs

    def holds(self) -> bool:
        """Whether the outputs are those of this very training, and dvc.lock is as it was at its end."""
        try:
            return bool(json.loads(self._path.read_text(encoding="utf-8")) == self._now())
        except (FileNotFoundError, ValueError):
            return False

    def __enter__(self) -> "Note":
        self._path.unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            write_text(self._path, json.dumps(self._now()))

    def _now(self) -> dict[str, Any]:
        lock = _LOCK.stat() if _LOCK.exists() else None
        return {
            **self._trained,
            "outputs": {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in self._outputs},
            "lock": None if lock is None else [lock.st_mtime_ns, lock.st_size],
        }
