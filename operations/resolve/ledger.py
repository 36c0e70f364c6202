"""The union of two ledgers: the batches of both sides, with the versions counted on."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from fedpipe.datasets import pool
from fedpipe.datasets.pool import Entry, Pool
from fedpipe.errors import PipelineError


def union(base: Sequence[Entry], ours: Sequence[Entry], theirs: Sequence[Entry]) -> list[Entry]:
    """The batches of ``ours``, then those that only ``theirs`` added, as later ingests.

    A batch that one side took out of the pool is out. A batch whose samples both sides added is in once.

    Raises:
      PipelineError: Both sides added a batch of the same name with other samples.
    """
    kept = [entry for entry in ours if _key(entry) not in _removed(base, theirs)]
    known, contents = {_key(entry): entry for entry in kept}, {(entry.dataset, entry.sha256) for entry in kept}
    before = {_key(entry) for entry in base}
    added = []
    for entry in theirs:
        if (mine := known.get(_key(entry))) is not None and mine.sha256 != entry.sha256:
            raise PipelineError(
                f"both sides added a batch {entry.batch} to {entry.dataset}, with other samples: take one out on its "
                "branch (`git checkout`), ingest it there by another name, and merge again"
            )
        if _key(entry) not in before and (entry.dataset, entry.sha256) not in contents:
            added.append(entry)
    last = pool.version(kept)
    numbers = {version: last + count for count, version in enumerate(sorted({e.version for e in added}), start=1)}
    return [*kept, *(entry.model_copy(update={"version": numbers[entry.version]}) for entry in added)]


def entries(text: str | None) -> list[Entry]:
    """The batches of a ledger's text; none where there is no text.

    Raises:
      PipelineError: A row is not a batch.
    """
    with tempfile.TemporaryDirectory() as folder:
        former = Pool(Path(folder))
        if text is not None:
            former.ledger.write_text(text, encoding="utf-8")
        return former.read_ledger()


def _key(entry: Entry) -> tuple[str, str]:
    return entry.dataset, entry.batch


def _removed(base: Sequence[Entry], side: Sequence[Entry]) -> set[tuple[str, str]]:
    return {_key(entry) for entry in base} - {_key(entry) for entry in side}
