"""Takes samples out of the pool: those of a batch, or those of a client in all batches and in the published data.

The rows of the withdrawal go to the ledger first, and the files follow: one that was killed is simply done again.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import layout
from fedpipe.atomic import atomic_file
from fedpipe.datasets import ledger, pool
from fedpipe.datasets.batch_file import decode
from fedpipe.datasets.ledger import Entry
from fedpipe.datasets.pool import Pool
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import PipelineError
from fedpipe.spelling import did_you_mean
from operations import commands


@dataclass(frozen=True)
class Withdrawn:
    """The withdrawal.

    Attributes:
      version: The pool's version since then.
      samples: How many samples of the pool, by batch.
      published: How many samples of the published data set, of a client that its table names.
    """

    version: int
    samples: dict[str, int]
    published: int = 0


def withdraw_batch(name: str) -> Withdrawn:
    """Withdraws a batch of the pool.

    Raises:
      PipelineError: The pool never had it, or DVC failed; in the latter case, calling again resumes.
    """
    ours = Pool(layout.POOL)
    entries = ours.read_ledger()
    if gone := ledger.withdrawn_batches(entries).get(name):
        _remove(ours, name)
        came = next(entry for entry in ledger.added(entries) if entry.batch == name)
        return Withdrawn(gone.version, {name: came.samples})
    batches = {entry.batch: entry for entry in pool.present(entries)}
    if name not in batches:
        raise PipelineError(f"the pool has no batch '{name}'{did_you_mean(name, list(batches))} ({ours.ledger})")
    entry = batches[name]
    row = entry.model_copy(update={"version": pool.version(entries) + 1, "event": "withdrawn"})
    ours.write_ledger([*entries, row])
    _remove(ours, name)
    return Withdrawn(row.version, {name: entry.samples})


def withdraw_client(client: str, dataset: RawDataset, published: Sequence[str] = ()) -> Withdrawn:
    """Withdraws the samples of a client in all batches of a data set, and in its published files.

    Args:
      client: The client's name.
      dataset: The data set.
      published: The client of each published sample that has one, by name.

    Raises:
      PipelineError: No sample is of this client, a batch is missing or changed, or DVC failed; in the last case, doing
        it again resumes.
    """
    ours = Pool(layout.POOL)
    entries = ours.read_ledger()
    if client not in ledger.withdrawn_clients(entries, dataset.name):
        entries = [*entries, *_rows(ours, entries, client, dataset, published)]
        ours.write_ledger(entries)
    mine = [row for row in entries if row.client == client and row.dataset == dataset.name]
    now = {entry.batch: entry for entry in pool.present(entries)}
    for row in mine:
        if row.batch in now:
            _reduce(ours, now[row.batch], client)
        elif row.batch:
            _remove(ours, row.batch)
    samples = {row.batch: _former(entries, row).samples - row.samples for row in mine if row.batch}
    return Withdrawn(mine[0].version, samples, list(published).count(client))


def _rows(
    ours: Pool, entries: Sequence[Entry], client: str, dataset: RawDataset, published: Sequence[str]
) -> list[Entry]:
    """The rows of a client's withdrawal: the client, then the rest of each batch that has samples of it."""
    head = Entry(
        version=pool.version(entries) + 1,
        dataset=dataset.name,
        batch="",
        samples=0,
        sha256="",
        event="withdrawn",
        client=client,
    )
    rows, names = [head], set(published)
    for entry in pool.present(pool.of_dataset(entries, dataset)):
        batch = ours.read(entry)
        names.update(map(str, () if batch.clients is None else batch.clients))
        smaller = batch.without(client)
        if smaller is not batch:
            left = len(smaller.labels)
            sha256 = hashlib.sha256(smaller.encode()).hexdigest() if left else ""
            rows.append(
                head.model_copy(update={"batch": entry.batch, "samples": left, "sha256": sha256, "event": "reduced"})
            )
    if client not in names:
        raise PipelineError(
            f"no sample of {dataset.name} is of a client '{client}'{did_you_mean(client, sorted(names))}"
        )
    return rows


def _former(entries: Sequence[Entry], row: Entry) -> Entry:
    """The row before ``row`` that says how many samples its batch had."""
    return [entry for entry in entries[: entries.index(row)] if entry.batch == row.batch][-1]


def _reduce(ours: Pool, entry: Entry, client: str) -> None:
    """Makes the batch's file the one that the ledger names now, and tells DVC."""
    path = ours.batch_path(entry.batch)
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            content = decode(content).without(client).encode()
    except (FileNotFoundError, ValueError):
        content = b""
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise PipelineError(
            f"{path} is not the batch that {ours.ledger} names: restore it with `dvc checkout {path}.dvc`, or from a "
            "remote with `dvc pull`, and withdraw the client again"
        )
    with atomic_file(path) as partial:
        partial.write_bytes(content)
    commands.dvc("add", str(path))


def _remove(ours: Pool, name: str) -> None:
    path = ours.batch_path(name)
    pointer = Path(f"{path}.dvc")
    if pointer.exists():
        commands.dvc("remove", str(pointer))
    path.unlink(missing_ok=True)
