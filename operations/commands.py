"""DVC and git, as commands of this project call them: with a short error, and this environment's DVC."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from fedpipe import unmerged
from fedpipe.errors import PipelineError
from fedpipe.tracking.outbox import without_password


def dvc(*arguments: str) -> str:
    """Runs ``dvc`` with ``arguments`` and returns its standard output.

    Without ``--quiet``: DVC would keep its errors to itself, too.

    Raises:
      PipelineError: It failed; the message ends with its own error.
    """
    return _run("dvc", [sys.executable, "-m", "dvc", *arguments])


def git(*arguments: str, environment: Mapping[str, str] | None = None, stdin: str | None = None) -> str:
    """Runs ``git``, as `dvc`.

    Raises:
      PipelineError: As `dvc`; also that git is not installed, or that the folder is not in a git repository.
    """
    english = dict(os.environ if environment is None else environment) | {"LC_ALL": "C"}
    return _run("git", ["git", *arguments], english, stdin)


def require_repository() -> None:
    """Asks git for the repository, since some of its commands do something else outside of one.

    Raises:
      PipelineError: git is not installed, or the folder is not in a git repository.
    """
    git("rev-parse", "--git-dir")


def committed(path: Path, revision: str = "HEAD") -> str | None:
    """The text of a file of this folder in a commit; None if the commit lacks it.

    Raises:
      PipelineError: git does not know the revision, or as `git`.
    """
    if not git("ls-tree", revision, "--", str(path)).strip():
        return None
    return git("show", f"{revision}:./{path.as_posix()}")


def uncommitted(known: Sequence[str], unknown: Sequence[str]) -> list[str]:
    """The files that differ from the last commit.

    Args:
      known: Where to compare files that git knows: paths of the checkout.
      unknown: Where to list files that git does not know, and does not ignore.
    """
    changed = git("diff", "--name-only", "HEAD", "--", *known)
    return [*changed.splitlines(), *git("ls-files", "--others", "--exclude-standard", "--", *unknown).splitlines()]


def _run(name: str, command: list[str], environment: Mapping[str, str] | None = None, stdin: str | None = None) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, input=stdin, check=False)
    except FileNotFoundError:
        raise PipelineError(
            f"{name} is not installed, or not on the PATH: install it (Debian, Ubuntu: apt-get install {name})"
        ) from None
    if name == "git" and "not a git repository" in done.stderr:
        raise PipelineError(
            f"{Path.cwd()} is not in a git repository: use a `git clone` of the project, since an unpacked archive has "
            "no commits"
        )
    if done.returncode:
        if name == "dvc" and (files := unmerged.files()):
            raise PipelineError(unmerged.sentence(*files))
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        # Below its error, DVC says where to find help.
        # Around its error, git gives warnings and hints.
        errors = [line for line in lines if line.startswith(("ERROR", "fatal:", "error:"))] or lines
        shown = " ".join(command[command.index("dvc") :] if "dvc" in command else command)
        failure = f"`{shown}` failed: {errors[-1] if errors else f'exit code {done.returncode}'}"
        raise PipelineError(without_password(failure))
    return done.stdout
