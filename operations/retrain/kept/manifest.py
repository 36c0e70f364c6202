"""The manifest of a state: its files, where each belongs, and its SHA-256."""

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from fedpipe.errors import PipelineError
from fedpipe.json_model import read_json
from fedpipe.tracking.run_events import sha256

MANIFEST = "manifest.json"
OBJECTS = "objects"
_ANOTHER = "take the state of another run, or pack it again with `python -m operations.retrain.kept pack FOLDER`"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Blob = Annotated[str, Field(pattern=r"^[0-9a-f]{40,64}$")]
Md5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}(\.dir)?$")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Kept(_Model):
    """A file of the state.

    Attributes:
      path: Its place, from the project's folder; below ``cache/`` from the folder of DVC's cache.
      sha256: Its content.
      size: Its bytes.
    """

    path: str
    sha256: Sha256
    size: Annotated[int, Field(ge=0)]


class Input(Kept):
    """A file that a retraining changed and no commit has, such as the ledger with a new batch.

    Attributes:
      base: Git's id of the file in the commit that the retraining started from; None if that commit lacks the file.
    """

    base: Blob | None


class Manifest(_Model):
    """The content of manifest.json.

    Attributes:
      form: The version of this form.
      commit: The commit that the retraining started from.
      files: The files that are put into their places.
      inputs: The changed files of an unfinished retraining; all of them or none are put into their places.
      batches: MD5 of each batch in DVC's cache, with the day on which a ledger last named it.
    """

    form: Literal[1]
    commit: str
    files: list[Kept]
    inputs: list[Input]
    batches: dict[Md5, date]

    @staticmethod
    def read(folder: Path) -> "Manifest":
        """The manifest of the state in ``folder``.

        Raises:
          PipelineError: It is missing or damaged.
        """
        return read_json(
            Manifest,
            folder / MANIFEST,
            missing=f"this folder holds no state; {_ANOTHER}",
            wrong=f"is damaged, or of another version of this project: {_ANOTHER}",
        )

    def all_files(self) -> Iterator[Kept]:
        """``files`` and ``inputs``."""
        yield from self.files
        yield from self.inputs


def object_path(folder: Path, digest: str) -> Path:
    """Where the state in ``folder`` stores the content with this SHA-256."""
    return folder / OBJECTS / digest[:2] / digest[2:]


def is_state(folder: Path) -> bool:
    """Whether ``folder`` holds a state, whole or damaged."""
    return (folder / MANIFEST).is_file()


def require_whole(folder: Path, manifest: Manifest) -> None:
    """Compares every file of the state with its SHA-256.

    Raises:
      PipelineError: A file is missing, damaged, a symbolic link, or not in the manifest.
    """
    known = {object_path(folder, each.sha256): each for each in manifest.all_files()}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_symlink():
            raise PipelineError(f"{path} is a symbolic link, which no state has: {_ANOTHER}")
        if path.is_file() and path not in known and str(name) != MANIFEST:
            raise PipelineError(f"{path} is not in {folder / MANIFEST}: {_ANOTHER}")
    for path, kept in known.items():
        if not path.is_file():
            raise PipelineError(f"{path}, which holds {kept.path}, is missing: {_ANOTHER}")
        if sha256(path) != kept.sha256:
            raise PipelineError(f"{path}, which holds {kept.path}, is damaged (its SHA-256 is another one): {_ANOTHER}")


def require_plain(path: str) -> PurePosixPath:
    """``path`` as the path of a file below some folder.

    Raises:
      PipelineError: It is absolute, leads out of the folder, or is not written in the shortest way.
    """
    plain = PurePosixPath(path)
    if plain.is_absolute() or ".." in plain.parts or str(plain) != path or re.search(r"[\\\x00-\x1f]", path):
        raise PipelineError(f"the state names {path!r}, which is no path below the project's folder: {_ANOTHER}")
    return plain
