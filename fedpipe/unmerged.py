"""Files in which git left the marks of a conflict: reported by one error, not by whichever parser meets them first.

No path is known here: git lists its files with the marks.
"""

import re
import subprocess

_OPENING = re.compile(r"^<{7} ", re.MULTILINE)
# Files that programs write and read; a text such as a page of documentation may quote the marks.
_READ_BY_PROGRAMS = ("*.json", "*.yaml", "*.lock", "*.csv", "*.dvc")
_SHOWN = 4


def has_marks(text: str) -> bool:
    """Whether ``text`` has the line with which git opens a conflict."""
    return _OPENING.search(text) is not None


def sentence(*files: str) -> str:
    """The error for files that have the marks, with the remedy."""
    shown = ", ".join([*files[:_SHOWN], *([f"and {len(files) - _SHOWN} more"] if len(files) > _SHOWN else [])])
    have = "has" if len(files) == 1 else "have"
    return f"{shown} {have} conflicts of a merge: `make resolve` settles them and recomputes (docs/merging.md)"


def files() -> list[str]:
    """The files of the current folder that git knows, programs read, and a merge left its marks in.

    Empty outside of a git repository.
    """
    command = ["git", "grep", "-l", "-e", "^<<<<<<< ", "--", *_READ_BY_PROGRAMS]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    except FileNotFoundError:
        return []
