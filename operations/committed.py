"""Which files a commit of results holds, and whether HEAD has those that are here."""

import layout
from fedpipe.datasets.ledger import Entry, parse
from fedpipe.datasets.pool import Pool
from fedpipe.errors import PipelineError
from layout import CHAMPION_MARKER
from operations import commands

# The files that a retraining changes.
PUBLISHED = ("params.yaml", "dvc.lock", "provenance.json", "metrics", "plots", "data/pool", "models")
CODE = (*layout.CODE, "operations", "requirements.lock")


def require_committed_code() -> None:
    """Results rest on code that whoever looks at their commit must have.

    Raises:
      PipelineError: Files that git knows, other than `PUBLISHED`, differ from HEAD, or there is code that git does not
        know; or the folder is in no git repository.
    """
    commands.require_repository()
    others = [f":(exclude){path}" for path in PUBLISHED]
    changed = commands.uncommitted([".", *others], CODE)
    if changed:
        raise PipelineError(
            f"{', '.join(changed)} changed since the last commit, and the results rest on it: commit it first"
        )


def uncommitted_results() -> list[str]:
    """The files of `PUBLISHED` that differ from HEAD; the marker of the champion does not count.

    Raises:
      PipelineError: The folder is in no git repository.
    """
    files = [*PUBLISHED, f":(exclude){CHAMPION_MARKER}"]
    return commands.uncommitted(files, files)


def require_committed_results() -> None:
    """Refuses results that are in no commit, since nobody could find what a version was made of.

    Raises:
      PipelineError: As `require_committed_code`, or results differ from HEAD's.
    """
    require_committed_code()
    if changed := uncommitted_results():
        shown = ", ".join(changed[:4]) + (f" and {len(changed) - 4} more" if len(changed) > 4 else "")
        raise PipelineError(
            f"{shown} changed since the last commit, and a version has to name the commit of its results: "
            "`git add --all && git commit`, then register (or `make publish`, which commits on a branch of its own)"
        )


def ledger_at(revision: str) -> list[Entry] | None:
    """The rows of the pool's ledger in a commit; None if this clone lacks the commit, or it has no readable ledger."""
    path = Pool(layout.POOL).ledger
    try:
        text = commands.committed(path, revision)
        return None if text is None else parse(text, path)
    except PipelineError:
        return None
