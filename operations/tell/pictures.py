"""Pictures in a pull request's text: committed on a branch of their own, and linked by the commit.

A text on GitHub takes no uploaded pictures from `gh`, and an artifact cannot be shown. The branch `retrain-reports` has
a folder for each of the last weeks; older ones are in its history, so that links by commit stay right. The commit is
made in a repository of its own: folder, index and history of this one stay as they are.
"""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import layout
from fedpipe.errors import PipelineError
from operations import commands, github
from operations.retrain.destination import credentials
from operations.retrain.outcome import Outcome

BRANCH = "retrain-reports"
_REF = f"refs/heads/{BRANCH}"
_WEEKS = 12  # that the branch's folder shows
_DRIFT = Path("reports/drift.png")


@dataclass(frozen=True)
class Picture:
    """A picture: the name of its file, what it shows, and the file's content."""

    name: str
    title: str
    content: bytes


def publish_pictures(outcome: Outcome, remote: str) -> str:
    """Commits this week's pictures, pushes them, and returns the Markdown that shows them.

    Args:
      outcome: Result of the retraining.
      remote: The git remote.

    Returns:
      Empty with secret noise, outside of GitHub, without pictures, and where pushing failed, which is a warning.
    """
    page = github.repository_url(remote)
    if page is None or layout.pipeline_files().withholds:
        return ""
    try:
        pictures = list(_pictures(outcome))
        if not pictures:
            return ""
        commit = _push(outcome.week, pictures, _address(remote))
    except PipelineError as error:
        print(f"publish: warning: no pictures in the pull request: {error}", file=sys.stderr, flush=True)
        return ""
    shown = [f"![{each.title}]({page}/raw/{commit}/{outcome.week}/{each.name})" for each in pictures]
    return "\n\n".join(["## Pictures", *shown]) + "\n"


def _pictures(outcome: Outcome) -> Iterator[Picture]:
    from operations.tell.comparison import comparisons  # pandas and matplotlib load

    if outcome.accuracy is not None or outcome.weights_sha256:
        for name, title, content in comparisons():
            yield Picture(name, title, content)
        if layout.CONFUSION_PICTURE.is_file():
            yield Picture("confusion.png", "Confusion on the test images", layout.CONFUSION_PICTURE.read_bytes())
    if outcome.new_batches and _DRIFT.is_file():
        yield Picture("drift.png", "New batches beside the data before them", _DRIFT.read_bytes())


def _address(remote: str) -> str:
    address = commands.git("remote", "get-url", "--push", remote).strip()
    return str(Path(address).resolve()) if Path(address).exists() else address


def _push(week: str, pictures: list[Picture], address: str) -> str:
    """Pushes a commit with the pictures in a folder ``week``, and returns its SHA."""

    with tempfile.TemporaryDirectory() as folder:
        inside = {"GIT_DIR": str(Path(folder, "git")), "GIT_INDEX_FILE": str(Path(folder, "index"))}
        identity = {f"GIT_{who}_NAME": "fedpipe" for who in ("AUTHOR", "COMMITTER")}
        identity |= {f"GIT_{who}_EMAIL": "fedpipe@localhost" for who in ("AUTHOR", "COMMITTER")}
        own = {**credentials(), **inside, **identity}

        def git(*arguments: str, stdin: str | None = None) -> str:
            return commands.git(*arguments, environment=own, stdin=stdin).strip()

        git("init", "--quiet", "--bare", inside["GIT_DIR"])
        parent = git("ls-remote", address, _REF).partition("\t")[0]
        if parent:
            git("fetch", "--quiet", "--depth", "1", address, _REF)
            git("read-tree", parent)
            weeks = sorted({path.partition("/")[0] for path in git("ls-files").splitlines()} - {week})
            for former in [week, *weeks[: max(0, len(weeks) - _WEEKS + 1)]]:
                git("rm", "--cached", "-r", "--quiet", "--ignore-unmatch", "--", former)
        for picture in pictures:
            path = Path(folder, "picture")
            path.write_bytes(picture.content)
            blob = git("hash-object", "-w", "--", str(path))
            git("update-index", "--add", "--cacheinfo", f"100644,{blob},{week}/{picture.name}")
        tree = git("write-tree")
        if parent and tree == git("rev-parse", f"{parent}^{{tree}}"):
            return parent
        commit = git("commit-tree", tree, *(["-p", parent] if parent else []), "-m", f"Pictures of {week}")
        git("push", "--quiet", address, f"{commit}:{_REF}")
        return commit
