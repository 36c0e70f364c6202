"""Moves the batches of data/incoming/ into the pool, or to data/held/ or data/rejected/ with the reason.

The ledger is written in one go after all files are in their place, and the incoming files go last: an ingest that was
killed is simply done again.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import layout
from fedpipe.atomic import atomic_file
from fedpipe.datasets import ledger, pool
from fedpipe.datasets.batch_file import Batch
from fedpipe.datasets.pool import Entry, Pool
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import PipelineError
from operations import commands
from operations.incoming.batches import EXPECTED, Candidate, find, read
from operations.incoming.decisions import decided, read_decisions
from operations.incoming.folders import HELD, INCOMING, REJECTED, forget, move_aside


@dataclass(frozen=True)
class Rules:
    """Requirements of a batch besides a valid form.

    Attributes:
      named_by: The scheme whose clients have names, so that a batch has to name them; None without such a scheme.
      hold: Why a batch has to wait for a person, a phrase for each reason.
    """

    named_by: str | None = None
    hold: Callable[[Batch], Sequence[str]] = lambda _: ()


@dataclass(frozen=True)
class Ingested:
    """The decisions on the incoming batches."""

    accepted: list[Entry]
    rejected: dict[str, str]  # name to reason
    known: list[str]  # were in the pool already, sample for sample
    waiting: list[str]  # left alone: a file or a hash of them is not there yet
    held: dict[str, str]  # name to reason


@dataclass(frozen=True)
class _Taken:
    """A batch that is right.

    Attributes:
      content: Its file in the pool.
      batch: Its samples.
      entry: Its row of the ledger; None: the pool has it already.
      released: Whether a person released it, so that it does not wait.
    """

    content: bytes
    batch: Batch
    entry: Entry | None = None
    released: bool = False


def ingest(dataset: RawDataset, rules: Rules | None = None, only: str | None = None) -> Ingested:
    """Checks every batch in data/incoming/, adds the good ones to the pool, moves the others aside.

    Args:
      dataset: The data set that a batch has to fit.
      rules: What else it has to meet.
      only: The name of the batch; None: all.

    Raises:
      PipelineError: The ledger or the decisions are damaged, or DVC failed; nothing is lost, and another ingest goes
        on.
    """
    ours = Pool(layout.POOL)
    rules = rules or Rules()
    intake = _Intake(dataset, rules, ours)
    result = Ingested([], {}, [], [], {})
    done: list[Candidate] = []
    candidates, strays = find(INCOMING)
    for path in strays if only is None else []:
        reason = f"{path.name} is no batch; expected: {EXPECTED}"
        result.rejected[path.name] = move_aside(REJECTED, path.name, [path], reason)
    for candidate in candidates:
        name = candidate.name
        if only is not None and name != only:
            continue
        if candidate.is_on_its_way(rules.named_by is not None):
            result.waiting.append(name)
            continue
        try:
            taken = intake.take(candidate, result.accepted)
        except PipelineError as error:
            result.rejected[name] = move_aside(REJECTED, name, candidate.files, str(error))
            continue
        # Errors from here on are not the batch's.
        if taken.entry and not taken.released and (reasons := rules.hold(taken.batch)):
            reason = f"{'; '.join(reasons)}. SHA-256 {taken.entry.sha256}"
            result.held[name] = move_aside(HELD, name, candidate.files, reason)
            continue
        done.append(candidate)
        # Also of a batch that is known: its file may have been lost, and these are the bytes that DVC knows it by.
        with atomic_file(ours.batch_path(name)) as partial:
            partial.write_bytes(taken.content)
        if taken.entry:
            result.accepted.append(taken.entry)
        else:
            result.known.append(name)
    if done:
        commands.dvc("add", *(str(ours.batch_path(candidate.name)) for candidate in done))
    if result.accepted:
        ours.write_ledger([*intake.entries, *result.accepted])
    for candidate in done:
        for folder in (REJECTED, HELD):
            forget(folder, candidate.name)
        for path in candidate.files:
            path.unlink()
    return result


class _Intake:
    """Decides what becomes of a batch."""

    def __init__(self, dataset: RawDataset, rules: Rules, ours: Pool) -> None:
        self._dataset, self._rules, self._pool = dataset, rules, ours
        self.entries = ours.read_ledger()
        self._decisions = read_decisions(ours.decisions)

    def take(self, candidate: Candidate, accepted: Sequence[Entry]) -> _Taken:
        """Checks a batch against the data set, the pool and what people decided.

        Raises:
          PipelineError: It is rejected.
        """
        name, batch = candidate.name, read(candidate, self._dataset)
        if batch.clients is None and self._rules.named_by:
            raise PipelineError(
                f"it names no clients, but 'partition.scheme' in params.yaml is {self._rules.named_by}, whose clients "
                "have names: add the array 'clients' (or the file NAME-clients-idx1-int) with each sample's client"
            )
        entries = [*self.entries, *accepted]
        for form in self._forms(batch):
            content = form.encode()
            sha256 = hashlib.sha256(content).hexdigest()
            if known := self._known(name, sha256, entries):
                return _Taken(self._as_it_is_now(form, content, known), form)
        self._require_no_other(name, sha256, entries)
        if not len(form.labels):
            raise PipelineError("all its samples are of clients whose samples were withdrawn")
        decision = decided(self._decisions, name, sha256)
        if decision and decision.decision == "rejected":
            raise PipelineError(f"{self._pool.decisions} rejects it: {decision.reason or 'without a reason'}")
        entry = Entry(
            version=pool.version(self.entries) + 1,
            dataset=self._dataset.name,
            batch=name,
            samples=len(form.labels),
            sha256=sha256,
        )
        return _Taken(content, form, entry, released=decision is not None)

    def _forms(self, batch: Batch) -> Iterator[Batch]:
        """The batch as it came, then without the samples of clients that are withdrawn, one after the other."""
        yield batch
        for client in ledger.withdrawn_clients(self.entries, self._dataset.name):
            smaller = batch.without(client)
            if smaller is not batch:
                batch = replace(smaller, positions=None)
                yield batch

    def _known(self, name: str, sha256: str, entries: Sequence[Entry]) -> Entry | None:
        """The row of exactly this batch, if there is one.

        Raises:
          PipelineError: The batch was withdrawn.
        """
        same = (name, sha256, self._dataset.name)
        rows = [row for row in ledger.added(entries) if (row.batch, row.sha256, row.dataset) == same]
        gone = ledger.withdrawn_batches(entries).get(name)
        if rows and gone:
            raise PipelineError(f"it was withdrawn in version {gone.version} of the pool, and does not come back")
        return rows[0] if rows else None

    def _as_it_is_now(self, batch: Batch, content: bytes, known: Entry) -> bytes:
        """The file of a batch of the pool, without the samples of clients that were withdrawn since it came."""
        reductions = [row for row in self.entries if row.event == "reduced" and row.batch == known.batch]
        for row in reductions:
            batch = batch.without(row.client)
        return batch.encode() if reductions else content

    def _require_no_other(self, name: str, sha256: str, entries: Sequence[Entry]) -> None:
        """Raises PipelineError if another batch of the pool has this name or these samples."""
        for entry in ledger.added(entries):
            if entry.sha256 == sha256 and entry.dataset == self._dataset.name:
                raise PipelineError(
                    f"it holds the same samples as batch '{entry.batch}', in the pool since version {entry.version}"
                )
            if entry.batch == name:
                raise PipelineError(
                    f"the pool has another batch of the name '{name}' since version {entry.version}: "
                    "give this one a name of its own"
                )
