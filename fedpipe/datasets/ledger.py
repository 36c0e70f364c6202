"""The ledger of the pool: a row for each batch that came, and a row for each withdrawal. Rows are only ever added.

  version,dataset,batch,samples,sha256[,event,client]

| event     | what the row says                                                                               |
| --------- | ----------------------------------------------------------------------------------------------- |
| added     | the batch came, with so many samples and this SHA-256 of its file                                 |
| withdrawn | with a batch: it is withdrawn. With a client: its samples are, those of the data set as published too |
| reduced   | what is left of the batch without the withdrawn client: samples and SHA-256, none if nothing is      |

The last two columns are written once a row needs them, so a ledger without withdrawals is the same file as ever.
"""

import csv
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from fedpipe.config.mistakes import mistakes
from fedpipe.datasets.raw import DatasetName, RawDataset
from fedpipe.errors import PipelineError

# It becomes a file name, in git too.
BATCH_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
CLIENT_NAME = r"^[^\x00-\x1f\x7f]{1,200}$"  # one line
_ALWAYS = ("version", "dataset", "batch", "samples", "sha256")


class Entry(BaseModel):
    """A row of the ledger."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Annotated[int, Field(ge=1)]
    dataset: DatasetName
    batch: Annotated[str, StringConstraints(pattern=BATCH_NAME)] | Literal[""]
    samples: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | Literal[""]
    event: Literal["added", "withdrawn", "reduced"] = "added"
    client: Annotated[str, StringConstraints(pattern=CLIENT_NAME)] | Literal[""] = ""

    @model_validator(mode="after")
    def _is_whole(self) -> "Entry":
        if self.event == "added" and not (self.batch and self.samples and self.sha256 and not self.client):
            raise ValueError("a row that adds a batch has its name, its samples and its SHA-256, and no client")
        if self.event == "withdrawn" and bool(self.batch) == bool(self.client):
            raise ValueError("a row that withdraws names either a batch or a client")
        if self.event == "reduced" and not (self.batch and self.client):
            raise ValueError("a row that reduces a batch names the batch and the withdrawn client")
        return self


def parse(text: str, path: Path) -> list[Entry]:
    """The rows of the ledger at ``path``.

    Raises:
      PipelineError: A row is no row of a ledger; the message names the line.
    """
    entries = []
    for line, row in enumerate(csv.DictReader(io.StringIO(text)), start=2):
        try:
            entries.append(Entry.model_validate(row))
        except ValidationError as error:
            wrong = "; ".join(mistakes(error, Entry))
            raise PipelineError(f"{path}, line {line}: {wrong}; restore it with `git checkout {path}`") from None
    return entries


def ledger_text(entries: Sequence[Entry]) -> str:
    """The ledger of ``entries`` as the text of its file."""
    columns = list(_ALWAYS if all(entry.event == "added" for entry in entries) else Entry.model_fields)
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    table.writeheader()
    table.writerows(entry.model_dump() for entry in entries)
    return text.getvalue()


def digest(entries: Sequence[Entry]) -> str:
    """SHA-256 of the ledger of ``entries``: a change to any batch changes it."""
    return hashlib.sha256(ledger_text(entries).encode()).hexdigest()


def version(entries: Sequence[Entry]) -> int:
    """The pool's version: how many times batches were added or withdrawn."""
    return max((entry.version for entry in entries), default=0)


def of_dataset(entries: Sequence[Entry], dataset: RawDataset) -> list[Entry]:
    """The rows that belong to ``dataset``."""
    return [entry for entry in entries if entry.dataset == dataset.name]


def added(entries: Sequence[Entry]) -> list[Entry]:
    """The rows of the batches that came, also of those that were withdrawn since."""
    return [entry for entry in entries if entry.event == "added"]


def present(entries: Sequence[Entry]) -> list[Entry]:
    """The batches of the pool in the order in which they came, each with the samples and the SHA-256 that it has now.

    A batch that was withdrawn, or of which nothing is left, is not among them.
    """
    batches: dict[str, Entry] = {}
    for entry in entries:
        if entry.event == "added":
            batches[entry.batch] = entry
        elif entry.event == "reduced" and entry.samples:
            batches[entry.batch] = batches[entry.batch].model_copy(
                update={"samples": entry.samples, "sha256": entry.sha256}
            )
        elif entry.batch:
            batches.pop(entry.batch, None)
    return list(batches.values())


def withdrawn_batches(entries: Sequence[Entry]) -> dict[str, Entry]:
    """By its name, the row that withdrew a batch, or that left nothing of it."""
    return {
        entry.batch: entry
        for entry in entries
        if entry.batch and (entry.event == "withdrawn" or (entry.event == "reduced" and not entry.samples))
    }


def withdrawn_clients(entries: Sequence[Entry], dataset: str) -> list[str]:
    """The clients of a data set whose samples are withdrawn, in the order of the withdrawals."""
    return [
        entry.client for entry in entries if entry.event == "withdrawn" and entry.client and entry.dataset == dataset
    ]


def not_trained_on(entries: Sequence[Entry], ledger_md5: str) -> list[Entry]:
    """The batches of the pool that came after the ledger whose MD5 a dvc.lock names.

    All batches, if no beginning of the ledger has this MD5. The ledger is only ever added to, so each of its former
    states is a beginning of it.
    """
    batches = present(entries)
    for count in range(len(entries), -1, -1):
        text = ledger_text(entries[:count])
        if hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() == ledger_md5:
            later = {entry.batch for entry in added(entries[count:])}
            return [entry for entry in batches if entry.batch in later]
    return batches
