"""``python -m fedpipe.outputs.restore [STAGE ...]``: puts back what DVC deleted before a stage that then failed.

DVC deletes a stage's outputs and then runs it. If the stage does not succeed, dvc.lock still names the old outputs, and
they are in DVC's cache. Tables that git keeps are in the cache too, or in the last commit.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedpipe.atomic import atomic_file
from fedpipe.errors import PipelineError, run_stage

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.repo import Repo


def restore(names: Sequence[str] = ()) -> list[str]:
    """Restores the missing outputs of stages, as dvc.lock names them; takes no lock of DVC.

    A stage is left alone where one of its outputs is there with other bytes, so that no two results are mixed.

    Args:
      names: The stages; none for all.

    Returns:
      The paths that are back.

    Raises:
      PipelineError: DVC is not installed, or does not open this folder.
    """
    back = []
    with _repository() as repo:
        for stage in repo.index.stages:
            if getattr(stage, "name", None) is None or (names and stage.name not in names):
                continue
            missing = [out for out in stage.outs if out.hash_info and not out.exists]
            there = [out for out in stage.outs if out not in missing and out.exists]
            if not missing or any(out.changed_checksum() for out in there):
                continue
            back += [out.def_path for out in missing if _from_cache(out) or _from_git(out)]
    return back


def restore_for_dvc() -> None:
    """Restores the outputs of the stage as which DVC runs this process, in another process; without DVC, nothing."""
    stage = os.environ.get("DVC_STAGE")
    if not stage:
        return
    ours = {name: value for name, value in os.environ.items() if name not in ("DVC_STAGE", "DVC_ROOT")}
    subprocess.run(
        [sys.executable, "-m", "fedpipe.outputs.restore", stage],
        env=ours | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        stdin=subprocess.DEVNULL,
        check=False,
    )


def _repository() -> "Repo":
    try:
        from dvc.exceptions import DvcException
        from dvc.repo import Repo  # half a second
    except ImportError:
        raise PipelineError(
            f"the Python {sys.executable} has no DVC, so the outputs that DVC deleted are still missing: "
            "`dvc checkout` brings them back"
        ) from None
    try:
        return Repo()
    except DvcException as error:
        raise PipelineError(
            f"DVC does not open this project: {error}; use a `git clone` of it, or make a repository of an unpacked "
            "archive with `git init && git add . && git commit -m start`"
        ) from None


def _from_cache(out: "Output") -> bool:
    out.use_cache = True  # also a table that git keeps: DVC's run cache has it
    if out.changed_cache():
        return False
    out.checkout()
    return True


def _from_git(out: "Output") -> bool:
    path = Path(out.fs_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        shown = subprocess.run(
            ["git", "show", f"HEAD:./{path.name}"], cwd=path.parent, capture_output=True, check=False
        )
    except FileNotFoundError:  # no git here
        return False
    content = shown.stdout
    if shown.returncode or hashlib.md5(content, usedforsecurity=False).hexdigest() != out.hash_info.value:
        return False
    with atomic_file(path) as partial:
        partial.write_bytes(content)
    return True


def _main() -> None:
    back = restore(sys.argv[1:])
    if back:
        print(f"restored the outputs that DVC had deleted: {', '.join(back)}", file=sys.stderr)


if __name__ == "__main__":
    run_stage(_main)
