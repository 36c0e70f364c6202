"""dvc.lock: with which params each stage ran last, and which files it made.

A result's params are recorded here, and not in params.yaml, which may have been edited since. DVC writes a stage's
entry when the stage has run, so a stage finds the stages before it up to date, and itself as it ran the time before.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedpipe.config import parse_text
from fedpipe.errors import PipelineError

# How dvc.lock names the params of a stage: by the file that DVC reads them from, unless dvc.yaml says another.
_PARAMS = "params.yaml"


@dataclass(frozen=True)
class Lock:
    """The content of a dvc.lock: stage by name, each as DVC writes it."""

    stages: Mapping[str, Any]

    @staticmethod
    def read(path: Path) -> "Lock":
        """Reads a workspace's.

        Raises:
          PipelineError: It is missing or no dvc.lock.
        """
        try:
            return Lock.parse(path.read_bytes(), str(path))
        except FileNotFoundError:
            raise PipelineError(f"{path} is missing, which says what results were made with: run `dvc repro`") from None

    @staticmethod
    def parse(content: bytes, source: str) -> "Lock":
        """As `read`, from the content of a dvc.lock; ``source`` names it in messages."""
        stages = parse_text(content, source).get("stages")
        if not isinstance(stages, dict) or not all(isinstance(stage, dict) for stage in stages.values()):
            raise PipelineError(f"{source} is not as DVC writes it: restore it with `git checkout {source}`")
        return Lock(stages)

    def params(self, stages: Iterable[str] | None = None) -> dict[str, Any]:
        """The params that stages ran with, as the tree that params.yaml had then.

        DVC records whole sections (``train``) and single keys (``train.rounds``); both find their place in the tree.

        Args:
          stages: Their names; all if None. One that is not in the lock has none.
        """
        names = self.stages if stages is None else stages
        recorded = (self.stages.get(name, {}).get("params", {}).get(_PARAMS, {}) for name in names)
        return tree(pair for params in recorded for pair in params.items())

    def hashes(self, stage: str, kind: str) -> dict[str, str]:
        """The MD5 of each of a stage's ``deps`` or ``outs`` by its path; that of a folder ends with ``.dir``."""
        return {entry["path"]: entry["md5"] for entry in self.stages.get(stage, {}).get(kind, []) if "md5" in entry}

    def is_of_the_files(self, stage: str) -> bool:
        """Whether the lock knows of the stage, and no file that the stage made is another one by now.

        A stage that was run by hand (``python -m stages.train``) leaves files that the lock does not speak of. Folders,
        and files that are not there, are not looked at.
        """
        made = {Path(path): recorded for path, recorded in self.hashes(stage, "outs").items()}
        return stage in self.stages and all(md5(path) == recorded for path, recorded in made.items() if path.is_file())


def tree(params: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Nests params by their dotted names: ``train.seed: 1`` becomes ``{"train": {"seed": 1}}``."""
    root: dict[str, Any] = {}
    for name, value in params:
        *above, last = name.split(".")
        place = root
        for key in above:
            place = place.setdefault(key, {})
        place[last] = _merged(place.get(last), value)
    return root


def _merged(present: Any, value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    merged = dict(present) if isinstance(present, Mapping) else {}
    for key, inner in value.items():
        merged[key] = _merged(merged.get(key), inner)
    return merged


def md5(path: Path) -> str:
    """The MD5 of a file as DVC records it, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
