"""Which places of a project a state may fill. It fills no other, whatever its manifest says."""

from pathlib import Path, PurePosixPath

import layout
from fedpipe.errors import PipelineError
from operations.retrain.kept.manifest import require_plain

CACHE = "cache"  # of DVC, wherever that is
CHECKPOINTS = layout.stage_logs("train") / "checkpoints"
CLIENT_STATE = layout.stage_logs("train") / "clients"
UNFINISHED = layout.LOGS / "retrain/unfinished"
ARTIFACTS = layout.DATABASE.with_name("mlartifacts")

# Of a retraining: params that it set, batches that it took in, weights that it starts from.
INPUTS = (
    layout.PARAMS,
    layout.POOL,
    layout.INITIAL_POINTER,
    layout.INITIAL.with_name(f"{layout.INITIAL.name}.dvc"),
    layout.INITIAL.with_name(".gitignore"),
)
_FILES = (layout.DATABASE, UNFINISHED, *(path for path in INPUTS if path != layout.POOL))
_FOLDERS = (ARTIFACTS, CHECKPOINTS, CLIENT_STATE, layout.OUTBOX, layout.POOL)


def target(path: str, cache: Path) -> Path:
    """Where the file of a state that is called ``path`` belongs.

    Args:
      path: Its name in the manifest.
      cache: The folder of DVC's cache.

    Raises:
      PipelineError: A state has no file there, or a symbolic link leads elsewhere.
    """
    plain = require_plain(path)
    root, place = _root(plain, cache)
    if place.is_symlink() or not place.parent.resolve().is_relative_to(root.resolve()):
        raise PipelineError(
            f"{place} is reached by a symbolic link to another folder: remove the link, and unpack again"
        )
    return place


def _root(plain: PurePosixPath, cache: Path) -> tuple[Path, Path]:
    """The folder that the file must not leave, and the file."""
    if plain.parts[0] == CACHE and plain.parts[1:2] in (("files",), ("runs",)):
        return cache, cache.joinpath(*plain.parts[1:])
    place = Path(plain)
    for folder in _FOLDERS:
        if place.is_relative_to(folder) and place != folder:
            return folder, place
    if place in _FILES:
        return place.parent, place
    raise PipelineError(f"the state names {str(plain)!r}, where no state has a file: take the state of another run")
