"""The inputs that an unfinished retraining changed and no commit has: params, ledger, start of the training."""

from collections.abc import Sequence
from pathlib import Path

from fedpipe.errors import PipelineError
from fedpipe.tracking.run_events import sha256
from operations import commands
from operations.retrain.kept.manifest import Input
from operations.retrain.kept.places import INPUTS


def changed() -> list[tuple[Path, str | None]]:
    """The files that differ from the last commit, each with the id that git has for it there.

    A file that is deleted is not among them: no step of a retraining deletes an input.
    """
    paths = [str(path) for path in INPUTS]
    names = commands.uncommitted(paths, paths)
    return [(Path(name), _committed(name)) for name in sorted(names) if Path(name).is_file()]


def differing(inputs: Sequence[Input]) -> list[str]:
    """The paths of those whose file here is neither the one that the retraining started from nor its own."""
    return [each.path for each in inputs if not _is_base_or_own(Path(each.path), each)]


def _is_base_or_own(path: Path, changed: Input) -> bool:
    if not path.is_file():
        return changed.base is None
    return sha256(path) == changed.sha256 or commands.git("hash-object", str(path)).strip() == changed.base


def _committed(name: str) -> str | None:
    try:
        return commands.git("rev-parse", "--verify", "--quiet", f"HEAD:./{name}").strip()
    except PipelineError:
        return None
