"""Commits of a retraining on top of HEAD, made without touching the folder, its index or its branch."""

import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from fedpipe.errors import PipelineError
from operations import commands
from operations.committed import PUBLISHED

# The last line of the commit's message: by it, a branch is known to hold nothing but a retraining.
MARK = "Made-by: python -m operations.retrain.publish"


def head() -> str:
    """The commit that is checked out."""
    return commands.git("rev-parse", "HEAD").strip()


def head_tree() -> str:
    """The tree of HEAD."""
    return commands.git("rev-parse", "HEAD^{tree}").strip()


def results_tree(files: Mapping[Path, str]) -> str:
    """The tree of HEAD with the results of this folder.

    Args:
      files: Texts of further files, by path; they count instead of the folder's.
    """
    return _tree([path for path in PUBLISHED if Path(path).exists()], files)


def tree_with(files: Mapping[Path, str]) -> str:
    """The tree of HEAD with the texts of ``files`` and no other change."""
    return _tree([], files)


def _tree(present: list[str], files: Mapping[Path, str]) -> str:
    """By way of an index of its own."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        commands.git("read-tree", "HEAD", environment=environment)
        if present:
            commands.git("add", "--all", "--", *present, environment=environment)
        for path, text in files.items():
            blob = commands.git("hash-object", "-w", "--stdin", stdin=text).strip()
            entry = f"100644,{blob},{path}"
            commands.git("update-index", "--add", "--cacheinfo", entry, environment=environment)
        return commands.git("write-tree", environment=environment).strip()


def commit(tree: str, title: str, reusable: Iterable[str | None] = ()) -> str:
    """A commit of ``tree`` on top of HEAD.

    Args:
      tree: The tree.
      title: First line of the message.
      reusable: Commits to take instead if one is of this tree and on top of HEAD.
    """
    for former in reusable:
        if former and _is_of(former, tree):
            return former
    identity = ["-c", "user.name=fedpipe", "-c", "user.email=fedpipe@localhost"] if not _has_identity() else []
    message = f"{title}\n\n{MARK}\n"
    return commands.git(*identity, "commit-tree", tree, "-p", "HEAD", "-F", "-", stdin=message).strip()


def is_retraining(revision: str) -> bool:
    """Whether `commit` made the last commit of ``revision``."""
    return MARK in commands.git("log", "-1", "--format=%B", revision).splitlines()


def _is_of(former: str, tree: str) -> bool:
    try:
        tree_and_parent = commands.git("rev-parse", f"{former}^{{tree}}", f"{former}^").split()
    except PipelineError:  # another clone's
        return False
    return tree_and_parent == [tree, head()]


def _has_identity() -> bool:
    """Whether git knows author and committer; the environment may name only one of them."""
    commands_of_git = (["git", "var", name] for name in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"))
    return all(subprocess.run(command, capture_output=True, check=False).returncode == 0 for command in commands_of_git)
