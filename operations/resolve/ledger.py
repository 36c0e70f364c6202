"""The union of two ledgers: the rows of both sides, with the versions counted on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fedpipe.datasets import pool
from fedpipe.datasets.pool import Entry
from fedpipe.errors import PipelineError


@dataclass(frozen=True)
class _Subject:
    """The subject of a row of the ledger; two rows of one subject say the same thing, or contradict each other.

    Attributes:
      dataset: The data set's name.
      batch: The batch's name; empty for a client that is withdrawn from all of the data set.
      event: added; withdrawn; reduced: without the samples of a withdrawn client.
      client: The withdrawn client; else empty.
    """

    dataset: str
    batch: str
    event: str
    client: str

    @staticmethod
    def of(entry: Entry) -> "_Subject":
        """The subject of a row."""
        return _Subject(entry.dataset, entry.batch, entry.event, entry.client)


def union(base: Sequence[Entry], ours: Sequence[Entry], theirs: Sequence[Entry]) -> list[Entry]:
    """The rows of ``ours``, then those that only ``theirs`` added, as later versions.

    A row that one side took back is out. A batch whose samples both sides added is in once, by our name.

    Raises:
      PipelineError: Both sides added a batch of the same name with other samples, or took other clients' samples out of
        a batch.
    """
    before = {_Subject.of(entry) for entry in base}
    taken_back = before - {_Subject.of(entry) for entry in theirs}
    kept = {_Subject.of(entry): entry for entry in ours if _Subject.of(entry) not in taken_back}
    contents = {(entry.dataset, entry.sha256) for row, entry in kept.items() if row.event == "added"}
    # Of these batches, what theirs says of them later is over, or left out with them.
    over = {(row.dataset, row.batch) for row in kept if row.event == "withdrawn" and row.batch}
    added = []
    for entry in theirs:
        row = _Subject.of(entry)
        if row in kept:
            _require_same(kept[row], entry)
        elif row not in before and (row.dataset, row.batch) not in over:
            if row.event == "added" and (entry.dataset, entry.sha256) in contents:
                over.add((row.dataset, row.batch))
                continue
            _require_reducible(row, kept, before)
            added.append(entry)
    last = pool.version(list(kept.values()))
    numbers = {version: last + count for count, version in enumerate(sorted({e.version for e in added}), start=1)}
    return [*kept.values(), *(entry.model_copy(update={"version": numbers[entry.version]}) for entry in added)]


def _require_same(mine: Entry, other: Entry) -> None:
    if mine.sha256 != other.sha256:
        raise PipelineError(
            f"both sides added a batch {mine.batch} to {mine.dataset}, with other samples: take one out on its "
            "branch (`git checkout`), ingest it there by another name, and merge again"
        )


def _require_reducible(row: _Subject, kept: Iterable[_Subject], before: set[_Subject]) -> None:
    """The rest of a batch is known for each side's withdrawals, and not for both."""
    others = [each for each in kept if each.event == row.event == "reduced" and each.batch == row.batch]
    if any(each not in before for each in others):
        raise PipelineError(
            f"both sides withdrew clients from batch {row.batch} of {row.dataset}: take the withdrawal of "
            f"{row.client!r} back on its branch, merge, and withdraw it again"
        )


def clients_to_withdraw_again(base: Sequence[Entry], ours: Sequence[Entry], theirs: Sequence[Entry]) -> list[str]:
    """Clients that one side withdrew while the other added batches, which may have samples of theirs."""
    before = {_Subject.of(entry) for entry in base}
    new = [{_Subject.of(entry) for entry in side} - before for side in (ours, theirs)]
    return sorted(
        row.client
        for side, other in (new, new[::-1])
        for row in side
        if row.event == "withdrawn" and row.client and any(each.event == "added" for each in other - side)
    )
