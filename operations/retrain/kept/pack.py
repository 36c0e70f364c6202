"""Writes a state: files that neither tracking server nor DVC remote keeps, in as few bytes as the next run needs."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

import layout
from fedpipe import params
from fedpipe.atomic import atomic_folder, write_text
from fedpipe.config.text import parse_text
from fedpipe.errors import PipelineError
from fedpipe.tracking.delivery import sync
from fedpipe.tracking.run_events import sha256
from fedpipe.tracking.snapshot import snapshot
from operations import commands
from operations.retrain.kept import dvc_cache, inputs
from operations.retrain.kept.dvc_cache import Cache
from operations.retrain.kept.manifest import MANIFEST, OBJECTS, Input, Kept, Manifest, is_state, object_path
from operations.retrain.kept.places import ARTIFACTS, CHECKPOINTS, CLIENT_STATE, UNFINISHED

# A batch that no ledger names any more is kept for as long as GitHub keeps an artifact.
_ORPHANED = timedelta(days=90)
# Written by `unpack`, read by the next `pack`: Manifest.batches.
LAST_NAMED = layout.LOGS / "retrain/kept_batches.json"
DATES = TypeAdapter(dict[str, date])


@dataclass
class Packed:
    """The content of a state.

    Attributes:
      bytes: Its size on disk.
      parts: Bytes of each part before equal files were stored once.
      left_out: The files not in it, and their places; sentences.
    """

    bytes: int = 0
    parts: dict[str, int] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = ", ".join(f"{part} {size / 1e6:.1f} MB" for part, size in self.parts.items() if size)
        return "; ".join([f"{self.bytes / 1e6:.1f} MB ({parts or 'nothing but the manifest'})", *self.left_out])


def pack(folder: Path) -> Packed:
    """Writes the state of this project to ``folder``, in place of a state that is there. Changes nothing else.

    Raises:
      PipelineError: ``folder`` holds something else, or a part cannot be read.
    """
    if not (is_state(folder) or _is_free(folder)):
        raise PipelineError(f"{folder} is no state, and would be replaced: name an empty or a new folder")
    _deliver()
    with atomic_folder(folder) as partial, Cache() as cache:
        state = _State(partial)
        batches = _add_cache(state, cache)
        _add_registry(state)
        _add_training(state)
        manifest = Manifest(
            form=1,
            commit=commands.git("rev-parse", "HEAD").strip(),
            files=state.files,
            inputs=[state.add_input(path, base) for path, base in inputs.changed()] if UNFINISHED.exists() else [],
            batches=batches,
        )
        write_text(partial / MANIFEST, manifest.model_dump_json(indent=1) + "\n")
        state.packed.bytes = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
    return state.packed


def _is_free(folder: Path) -> bool:
    return not os.path.lexists(folder) or (folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()))


class _State:
    """A state in the making."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / OBJECTS).mkdir()
        self.files: list[Kept] = []
        self.packed = Packed()

    def add(self, part: str, path: Path, name: str = "", link: bool = False) -> None:
        """Puts a file into the state; ``link`` where the file is never written to again."""
        kept = self._store(path, name or path.as_posix(), link)
        self.files.append(kept)
        self.packed.parts[part] = self.packed.parts.get(part, 0) + kept.size

    def add_input(self, path: Path, base: str | None) -> Input:
        """Puts a changed file into the state."""
        kept = self._store(path, path.as_posix(), link=False)
        return Input(**kept.model_dump(), base=base)

    def _store(self, path: Path, name: str, link: bool) -> Kept:
        copy = self._folder / OBJECTS / "copy"
        if link:
            with suppress(OSError):  # another file system, or one without links
                os.link(path, copy)
        if not copy.exists():
            shutil.copyfile(path, copy)
        kept = Kept(path=name, sha256=sha256(copy), size=copy.stat().st_size)
        place = object_path(self._folder, kept.sha256)
        place.parent.mkdir(exist_ok=True)
        copy.replace(place)
        copy.unlink(missing_ok=True)  # a rename onto another link of the same file leaves both
        return kept


def _deliver() -> None:
    """Delivers MLflow's pending records, such as the end of a killed run; those that it does not take are kept."""
    outbox = layout.outbox()
    if not outbox.pending():
        return
    from fedpipe.tracking.mlflow_store import MlflowStore

    try:
        sync(outbox, lambda: MlflowStore(outbox.store))
    except PipelineError as error:
        _say(str(error))


def _add_cache(state: _State, cache: Cache) -> dict[str, date]:
    """Adds what only DVC's cache has; returns the batches with the day on which each was last named."""
    named = dvc_cache.revisions()
    named.add(dvc_cache.workspace())
    today = datetime.now(UTC).date()
    batches = dict.fromkeys(sorted(named.batches), today)
    for md5, day in _last_named().items():
        if md5 not in batches and (dvc_cache.is_shallow() or today - day < _ORPHANED):
            batches[md5] = today if dvc_cache.is_shallow() else day
    outputs, samples = cache.present(named.outputs), cache.present(batches)
    for part, hashes in (("batches", samples), ("outputs", outputs - samples)):
        missing = cache.not_in_remote(hashes)
        for md5 in sorted(missing):
            path = cache.path(md5)
            state.add(part, path, cache.name(path), link=True)
        if len(missing) < len(hashes):
            state.packed.left_out.append(f"{len(hashes) - len(missing)} {part} are in the DVC remote {cache.remote}")
    for path in cache.records(outputs | samples):
        state.add("records of runs", path, cache.name(path))
    return {md5: day for md5, day in batches.items() if md5 in samples}


def _last_named() -> dict[str, date]:
    try:
        return DATES.validate_json(LAST_NAMED.read_bytes())
    except FileNotFoundError:
        return {}
    except ValidationError:
        raise PipelineError(f"{LAST_NAMED} is damaged: unpack the last state again, or remove the file") from None


def _add_registry(state: _State) -> None:
    """Adds runs and model registry, unless a server has them."""
    if os.environ.get("MLFLOW_TRACKING_URI"):
        state.packed.left_out.append("runs and models are in the store that MLFLOW_TRACKING_URI names")
        return
    if not layout.DATABASE.is_file():
        return
    former = params.load(params.State, layout.PARAMS).former_champions
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, layout.DATABASE.name)
        artifacts = snapshot(layout.DATABASE.absolute(), copy, former, _weights())
        state.add("runs", copy, str(layout.DATABASE))
    for path in artifacts:
        state.add("models", ARTIFACTS / path, link=True)


def _weights() -> set[str]:
    """SHA-256 of the weights in the workspace and of those on branches, whose runs a retraining may come back to."""
    name = str(layout.TRAINING)
    texts = [layout.TRAINING.read_text(encoding="utf-8")] if layout.TRAINING.is_file() else []
    digests = {str(parse_text(text, name).get("weights_sha256", "")) for text in texts}
    for revision in dvc_cache.branches():
        with suppress(PipelineError):  # a branch without results, or in the middle of a merge
            text = commands.git("show", f"{revision}:./{name}")
            digests.add(str(parse_text(text, name).get("weights_sha256", "")))
    return digests


def _add_training(state: _State) -> None:
    """Adds the checkpoints of a stopped training, and MLflow's pending records."""
    for part, folder in (("checkpoint", CHECKPOINTS), ("checkpoint", CLIENT_STATE), ("journals", layout.OUTBOX)):
        for path in _files(folder):
            state.add(part, path)
    if UNFINISHED.exists():
        state.add("checkpoint", UNFINISHED)


def _files(folder: Path) -> Iterable[Path]:
    """The files below ``folder``; none that is hidden or half written."""
    for path in sorted(folder.rglob("*")):
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not is_hidden and path.suffix != ".partial":
            yield path


def _say(line: str) -> None:
    print(f"kept: {line}", file=sys.stderr, flush=True)
