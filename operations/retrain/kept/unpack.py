"""Brings a state into a project: all of it is verified first, each file is written atomically, the registry last."""

import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import layout
from fedpipe.atomic import atomic_file, atomic_folder
from fedpipe.errors import PipelineError
from fedpipe.tracking.snapshot import compare
from operations.retrain.kept import inputs
from operations.retrain.kept.dvc_cache import Cache
from operations.retrain.kept.manifest import Kept, Manifest, object_path, require_whole
from operations.retrain.kept.pack import DATES, LAST_NAMED
from operations.retrain.kept.places import ARTIFACTS, CACHE, CHECKPOINTS, CLIENT_STATE, UNFINISHED, target


@dataclass
class Unpacked:
    """Result of unpacking.

    Attributes:
      commit: The commit that the state's retraining started from.
      files: How many files were written.
      unfinished: Whether that retraining did not end; `make retrain` resumes it.
      notes: The files not taken from the state, and the reasons; sentences.
    """

    commit: str
    files: int = 0
    unfinished: bool = False
    notes: list[str] = field(default_factory=list)


def unpack(folder: Path, takes_unfinished: bool = True) -> Unpacked:
    """Puts the files of the state in ``folder`` into their places; a checkpoint, journal or object that is here stays.

    Args:
      folder: The state.
      takes_unfinished: Whether to take what belongs to a retraining that did not end: its inputs, its checkpoint, and
        the mark that it is to be resumed.

    Raises:
      PipelineError: The state is damaged or names a file outside of its places, or the registry here has runs or
        versions of its own. Nothing is written then.
    """
    manifest = Manifest.read(folder)
    require_whole(folder, manifest)
    with Cache() as cache:
        places = {each.path: target(each.path, cache.folder) for each in manifest.all_files()}
    result = Unpacked(manifest.commit, unfinished=any(each.path == str(UNFINISHED) for each in manifest.files))
    writer = _Writer(folder, places, result)
    takes_registry = _takes_registry(folder, manifest, result)
    takes_inputs = takes_unfinished and _takes_inputs(manifest, result)
    if result.unfinished and not takes_unfinished:
        result.notes.append("the state's retraining did not end; its inputs and its checkpoint are not taken here")
        result.unfinished = False

    registry = [each for each in manifest.files if _is_in(each, (layout.DATABASE, ARTIFACTS))]
    journals = [each for each in manifest.files if _is_in(each, (layout.OUTBOX,))]
    for each in manifest.files:
        is_left = not takes_unfinished and _is_in(each, (UNFINISHED, CHECKPOINTS, CLIENT_STATE))
        if each not in registry and each not in journals and not is_left and not places[each.path].exists():
            writer.write(each)
    writer.write_journals(journals)
    for changed in manifest.inputs if takes_inputs else ():
        writer.write(changed)
    if takes_registry:
        # MLflow looks for artifacts here, also if the state has none.
        ARTIFACTS.mkdir(exist_ok=True)
        for each in sorted(registry, key=lambda kept: kept.path == str(layout.DATABASE)):
            writer.write(each)
    with atomic_file(LAST_NAMED) as partial:
        partial.write_bytes(DATES.dump_json(dict(manifest.batches)))
    return result


class _Writer:
    """Writes files of a state to their places."""

    def __init__(self, folder: Path, places: dict[str, Path], result: Unpacked) -> None:
        self._folder, self._places, self._result = folder, places, result

    def write(self, kept: Kept) -> None:
        """Writes one, in place of the present one."""
        with atomic_file(self._places[kept.path]) as partial:
            self._copy(kept, partial)
        if kept.path.startswith(f"{CACHE}/files/"):
            self._places[kept.path].chmod(0o444)  # as DVC protects its cache

    def write_journals(self, files: Collection[Kept]) -> None:
        """Writes those journals that are not here, each at once whole."""
        names = {self._places[each.path].relative_to(layout.OUTBOX).parts[0] for each in files}
        for journal in sorted(layout.OUTBOX / name for name in names):
            if journal.exists():
                continue
            # Hidden while it is written: whoever delivers does not see it.
            hidden = journal.with_name(f".{journal.name}")
            with atomic_folder(hidden) as partial:
                for each in files:
                    if self._places[each.path].is_relative_to(journal):
                        inner = partial / self._places[each.path].relative_to(journal)
                        inner.parent.mkdir(parents=True, exist_ok=True)
                        self._copy(each, inner)
            hidden.rename(journal)

    def _copy(self, kept: Kept, place: Path) -> None:
        shutil.copyfile(object_path(self._folder, kept.sha256), place)
        self._result.files += 1


def _takes_registry(folder: Path, manifest: Manifest, result: Unpacked) -> bool:
    """Whether the state's registry takes the place of the one that is here.

    Raises:
      PipelineError: Each has something that the other lacks.
    """
    theirs = next((each for each in manifest.files if each.path == str(layout.DATABASE)), None)
    if theirs is None:
        return False
    if os.environ.get("MLFLOW_TRACKING_URI"):
        result.notes.append(
            f"the state has a registry in a file, {layout.DATABASE}, but MLFLOW_TRACKING_URI names another store"
        )
        return False
    if not layout.DATABASE.exists():
        return True
    relation = compare(layout.DATABASE, object_path(folder, theirs.sha256))
    if relation == "apart":
        raise PipelineError(
            f"{layout.DATABASE} has runs, versions or aliases that the state has not: move it and {ARTIFACTS} away to "
            "take the state's, or unpack in another clone"
        )
    if relation == "ahead":
        result.notes.append(f"{layout.DATABASE} has all that the state has, and more: it stays")
    return relation == "behind"


def _takes_inputs(manifest: Manifest, result: Unpacked) -> bool:
    """Whether the state's changed inputs fit the files here."""
    differing = inputs.differing(manifest.inputs)
    if differing:
        result.notes.append(
            f"{', '.join(differing)} changed since the unfinished retraining started from {manifest.commit[:12]}: its "
            "params and batches are not taken, and `make retrain` starts anew"
        )
    return not differing


def _is_in(kept: Kept, folders: Collection[Path]) -> bool:
    return any(Path(kept.path).is_relative_to(folder) for folder in folders)
