"""Which commit a run is of, and whether the files differ from it."""

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path


def git_tags(written: Iterable[Path]) -> dict[str, str]:
    """Tags for the commit and for whether the tree differs from it; ``unknown: <why>`` where git cannot say.

    Args:
      written: The pipeline's own files: no change of them counts.
    """
    try:
        changes = _git(
            "status",
            "--porcelain",
            "--untracked-files=normal",
            "--",
            ".",
            *(f":(exclude){output}" for output in written),
        )
        return {
            "mlflow.source.git.commit": _git("rev-parse", "HEAD"),
            "fedpipe.git_dirty": str(bool(changes)).lower(),
        }
    except _GitFailed as reason:
        return dict.fromkeys(("mlflow.source.git.commit", "fedpipe.git_dirty"), f"unknown: {reason}")


class _GitFailed(Exception):
    """Git cannot answer; the text is the reason."""


def _git(*arguments: str) -> str:
    environment = os.environ | {"LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", *arguments], env=environment, capture_output=True, text=True, timeout=10, check=False
        )
    except FileNotFoundError:
        raise _GitFailed("git is not installed") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise _GitFailed(str(error)) from None
    if done.returncode:
        lines = done.stderr.splitlines() or [f"exit code {done.returncode}"]
        reason = next((line for line in lines if line.startswith("fatal: ")), lines[0]).removeprefix("fatal: ")
        raise _GitFailed("no git repository" if "not a git repository" in reason else reason)
    return done.stdout.strip()
