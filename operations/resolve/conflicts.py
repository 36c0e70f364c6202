"""A file in conflict, as git's index keeps it: the common ancestor's text, ours and theirs."""

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from operations import commands

Side = Literal["ours", "theirs"]
_STAGES = {"base": 1, "ours": 2, "theirs": 3}


@dataclass(frozen=True)
class Conflict:
    """A file that both sides of a merge changed.

    Attributes:
      path: Below the project's folder.
      base: The text of the common ancestor; None where it lacks the file. Here and below.
      ours: The text of the branch that is checked out.
      theirs: The text of the branch that is merged into it.
    """

    path: str
    base: str | None
    ours: str | None
    theirs: str | None

    def text(self, side: Side) -> str | None:
        """The text of one side."""
        return self.ours if side == "ours" else self.theirs

    def merged_lines(self, favour: Literal["ours", "theirs", "union"]) -> str:
        """Git's merge line by line; where both sides changed a line, it is that of ``favour``, or both with union."""
        with tempfile.TemporaryDirectory() as folder:
            files = {name: Path(folder, name) for name in ("ours", "base", "theirs")}
            for name, text in (("ours", self.ours), ("base", self.base), ("theirs", self.theirs)):
                files[name].write_text(text or "", encoding="utf-8")
            return commands.git("merge-file", "-p", f"--{favour}", *map(str, files.values()))


def unresolved() -> list[Conflict]:
    """The files of the project's folder that are in conflict, in alphabetical order.

    Raises:
      PipelineError: git is not installed, or the folder is not in a git repository.
    """
    commands.require_repository()
    paths = commands.git("diff", "--name-only", "--diff-filter=U", "--relative", "-z").split("\0")
    return [_conflict(path) for path in sorted(set(filter(None, paths)))]


def is_under_way() -> bool:
    """Whether a merge (or cherry-pick, revert, rebase) has begun and not ended."""
    names = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply")
    return any(Path(commands.git("rev-parse", "--git-path", name).strip()).exists() for name in names)


def _conflict(path: str) -> Conflict:
    texts = {name: _stage(number, path) for name, number in _STAGES.items()}
    return Conflict(path, **texts)


def _stage(number: int, path: str) -> str | None:
    done = subprocess.run(["git", "show", f":{number}:./{path}"], capture_output=True, check=False)
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None
