"""The pool: batches that clients gained after the data set was published, and the ledger that names them in order.

A folder:

  ledger.csv               version, dataset, batch, samples, SHA-256; one row per batch, append-only; in git
  week-12.safetensors      the batch's images uint8 [n, height, width, channels] and labels uint8 [n]; in DVC
  week-12.safetensors.dvc  what DVC knows it by; in git

The version counts the ingests: pool version v is all rows whose version is v or less. The partition stage depends on
the ledger only: it holds the SHA-256 of every batch, so a change to any batch changes this file, and a clone without
batches needs no remote. A batch is stored as safetensors in any case: equal samples give equal bytes.
"""

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedpipe import unmerged
from fedpipe.atomic import write_text
from fedpipe.config.mistakes import mistakes
from fedpipe.datasets.raw import DatasetName, Labelled, RawDataset
from fedpipe.errors import PipelineError

# It becomes a file name, in git too.
BATCH_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


class Entry(BaseModel):
    """A row of the ledger: one batch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Annotated[int, Field(ge=1)]
    dataset: DatasetName
    batch: Annotated[str, StringConstraints(pattern=BATCH_NAME)]
    samples: Annotated[int, Field(ge=1)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class Pool:
    """The folder of a pool."""

    folder: Path

    @property
    def ledger(self) -> Path:
        """The file that names the batches."""
        return self.folder / "ledger.csv"

    def batch_path(self, batch: str) -> Path:
        """The file that holds ``batch``."""
        return self.folder / f"{batch}.safetensors"

    def read_ledger(self) -> list[Entry]:
        """The batches of the pool, in the order in which they came; none where there is no ledger.

        (DVC does not run a stage whose ledger is missing.)

        Raises:
          PipelineError: A row is not a batch; the message names the line.
        """
        path = self.ledger
        try:
            text = path.read_text(encoding="utf-8")
            if unmerged.has_marks(text):
                raise PipelineError(unmerged.sentence(str(path)))
            rows = list(csv.DictReader(io.StringIO(text)))
        except FileNotFoundError:
            return []
        except UnicodeDecodeError:
            raise PipelineError(f"{path} is not a table of batches: restore it with `git checkout {path}`") from None
        entries = []
        for line, row in enumerate(rows, start=2):
            try:
                entries.append(Entry.model_validate(row))
            except ValidationError as error:
                wrong = "; ".join(mistakes(error, Entry))
                raise PipelineError(f"{path}, line {line}: {wrong}; restore it with `git checkout {path}`") from None
        return entries

    def write_ledger(self, entries: Sequence[Entry]) -> None:
        """Replaces the ledger, atomically."""
        write_text(self.ledger, ledger_text(entries))

    def read_batch(self, entry: Entry) -> Labelled:
        """The images uint8 [n, height, width, channels] and labels uint8 [n] of a batch.

        Raises:
          PipelineError: Its file is missing or is not the one that the ledger names.
        """
        path, ledger = self.batch_path(entry.batch), self.ledger
        again = f"restore it with `dvc checkout {path}.dvc`, or with `dvc pull {path}.dvc` from a remote"
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise PipelineError(f"{path}, a batch of {ledger}, is missing: {again}") from None
        present = hashlib.sha256(content).hexdigest()
        if present != entry.sha256:
            raise PipelineError(f"{path} has SHA-256 {present[:12]}…, but {ledger} says {entry.sha256[:12]}…: {again}")
        try:
            tensors = load(content)
            return tensors["images"], tensors["labels"]
        except (SafetensorError, KeyError) as error:
            raise PipelineError(f"{path} is not a batch ({error}), though {ledger} names it") from None

    def with_batches(self, dataset: RawDataset, published: Labelled) -> Labelled:
        """The training samples: those that were published, then the batches of ``dataset`` in the ledger's order.

        Raises:
          PipelineError: A batch is missing, changed, or of another image size or number of classes than ``dataset``.
        """
        batches = []
        for entry in of_dataset(self.read_ledger(), dataset):
            images, labels = self.read_batch(entry)
            if images.shape[1:] != dataset.image_shape or labels.max() >= dataset.classes:
                raise PipelineError(
                    f"{self.batch_path(entry.batch)} has images of {images.shape[1:]} and labels to {labels.max()}, "
                    f"but data set '{dataset.name}' has {dataset.image_shape} and {dataset.classes} classes: another "
                    "of that name?"
                )
            batches.append((images, labels))
        return join([published, *batches]) if batches else published


def ledger_text(entries: Sequence[Entry]) -> str:
    """The ledger of ``entries`` as the text of its file."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(Entry.model_fields), lineterminator="\n")
    table.writeheader()
    table.writerows(entry.model_dump() for entry in entries)
    return text.getvalue()


def digest(entries: Sequence[Entry]) -> str:
    """SHA-256 of the ledger of ``entries``: a change to any batch changes it."""
    return hashlib.sha256(ledger_text(entries).encode()).hexdigest()


def version(entries: Sequence[Entry]) -> int:
    """The pool's version: how many ingests have added to it."""
    return max((entry.version for entry in entries), default=0)


def encode(images: np.ndarray, labels: np.ndarray) -> bytes:
    """A batch as it is stored: equal samples give equal bytes."""
    return save({"images": images, "labels": labels})


def of_dataset(entries: Sequence[Entry], dataset: RawDataset) -> list[Entry]:
    """The batches that belong to ``dataset``."""
    return [entry for entry in entries if entry.dataset == dataset.name]


def join(parts: Sequence[Labelled]) -> Labelled:
    """Samples of several parts one after the other."""
    images, labels = zip(*parts, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def not_trained_on(entries: Sequence[Entry], ledger_md5: str) -> list[Entry]:
    """The batches that came after the ledger whose MD5 a dvc.lock names; all, if no beginning of this one has it.

    The ledger is only ever added to, so each of its former states is a beginning of it.
    """
    for count in range(len(entries), -1, -1):
        text = ledger_text(entries[:count])
        if hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() == ledger_md5:
            return list(entries[count:])
    return list(entries)
