"""Source after source until every file is there, or one message that says why none of them would do."""

import sys
from collections.abc import Sequence
from pathlib import Path

from fedpipe.datasets.sources.addresses import first_source
from fedpipe.datasets.sources.checksums import store
from fedpipe.datasets.sources.published import DataFile, Dataset
from fedpipe.datasets.sources.source import FileFailed, OpenFile, Source, SourceFailed
from fedpipe.errors import PipelineError


def say(text: str) -> None:
    """One line on stderr, at once."""
    print(f"download: {text}", file=sys.stderr, flush=True)


def fetch(dataset: Dataset, missing: Sequence[DataFile], sources: Sequence[tuple[str, Source]], folder: Path) -> None:
    """Writes the missing files to ``folder``, each from the first source that has it whole.

    Args:
      dataset: Whose files they are, for messages.
      missing: The files to fetch.
      sources: The sources in order, each with its name.
      folder: Where the files go, each under its own name and written atomically.

    Raises:
      PipelineError: Files are missing after the last source; names every source and why it failed.
        Or a file cannot be written, which no other source would change.
    """
    reasons: list[str] = []
    for name, source in sources:
        say(f"trying {name}")
        missing, failures = _fetch_from(source, missing, folder)
        if not missing:
            return
        reasons.append(f"{name}: {_summary(failures)}")
        say(reasons[-1])
    raise PipelineError(
        f"no source gave {', '.join(file.name for file in missing)} of {dataset.title}; put the files in a "
        f"folder and set {first_source(dataset)} to it, or name another source in params.yaml "
        f"(download.sources.{dataset.name})" + "".join(f"\n  {reason}" for reason in reasons)
    )


def _fetch_from(source: Source, missing: Sequence[DataFile], folder: Path) -> tuple[list[DataFile], list[str]]:
    """What one source can give; returns the files that are still missing, and the reasons."""
    fetched: set[str] = set()
    failures: list[str] = []
    try:
        with source as open_file:
            for file in missing:
                failure = _fetch_file(open_file, file, folder)
                if failure is None:
                    fetched.add(file.name)
                else:
                    failures.append(failure)
    except SourceFailed as failed:
        failures.append(str(failed))
    return [file for file in missing if file.name not in fetched], failures


def _fetch_file(open_file: OpenFile, file: DataFile, folder: Path) -> str | None:
    """Why the file could not be had, or None when it is there."""
    try:
        with open_file(file) as stream:
            store(stream, file, folder / file.name)
    except FileFailed as failed:
        return str(failed)
    except OSError as error:
        # Reading never ends here (the sources say FileFailed): our own disk is full or not writable.
        raise PipelineError(f"{folder / file.name} cannot be written: {error.strerror}") from None
    say(f"{file.name}: {file.size:,} bytes, SHA-256 as pinned")
    return None


def _summary(failures: Sequence[str]) -> str:
    """The first reason, and how many more there are: a mirror that is gone says the same for each file."""
    others = len(failures) - 1
    return failures[0] + (f" (and {others} more)" if others else "")
