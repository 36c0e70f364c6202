"""The pool: batches that clients gained after the data set was published, and the ledger that names them in order.

A folder:

  ledger.csv               what came and what was withdrawn, row by row (ledger.py); in git
  decisions.csv            batches that a person released or rejected (operations/incoming/decisions.py); in git
  week-12.safetensors      the batch's samples (batch_file.py); in DVC
  week-12.safetensors.dvc  what DVC knows it by; in git

The version counts the changes: pool version v is all rows whose version is v or less. The partition stage depends on
the ledger only: it holds the SHA-256 of every batch, so a change to any batch changes this file, and a clone without
batches needs no remote.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fedpipe import unmerged
from fedpipe.atomic import write_text
from fedpipe.datasets.batch_file import Batch, decode
from fedpipe.datasets.ledger import (
    BATCH_NAME,
    Entry,
    added,
    digest,
    ledger_text,
    not_trained_on,
    of_dataset,
    parse,
    present,
    version,
    withdrawn_clients,
)
from fedpipe.datasets.raw import Labelled, RawDataset
from fedpipe.errors import PipelineError
from fedpipe.samples.kind import Kind

__all__ = [
    "BATCH_NAME",
    "Arrived",
    "Entry",
    "Pool",
    "TrainingSamples",
    "digest",
    "join",
    "ledger_text",
    "not_trained_on",
    "of_dataset",
    "present",
    "version",
]


@dataclass(frozen=True)
class Arrived:
    """A batch as the partition sees it.

    Attributes:
      came: How many samples it had when it came, withdrawn ones too.
      positions: Which of them each sample is, int [n], ascending.
      labels: uint8 [n].
      clients: The name of each sample's client, text [n]; None where the batch names none.
    """

    came: int
    positions: np.ndarray
    labels: np.ndarray
    clients: np.ndarray | None = None


@dataclass(frozen=True)
class TrainingSamples:
    """The training samples: those of the data set as published, then the pool's in the ledger's order.

    Attributes:
      images: uint8 [n, height, width, channels].
      labels: uint8 [n].
      published: How many of them were published.
      batches: All batches that ever came, so that a withdrawal moves no sample of another; of one that was withdrawn,
        nothing but how many samples came.
      withdrawn_clients: The names of clients whose samples are withdrawn.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    published: int
    batches: tuple[Arrived, ...] = ()
    withdrawn_clients: tuple[str, ...] = ()

    def binned(self, kind: Kind) -> "TrainingSamples":
        """The same with the groups of the labels (`Kind.binned`) in the place of labels."""
        batches = tuple(replace(batch, labels=kind.binned(batch.labels)) for batch in self.batches)
        return replace(self, labels=kind.binned(self.labels), batches=batches)


@dataclass(frozen=True)
class Pool:
    """The folder of a pool."""

    folder: Path

    @property
    def ledger(self) -> Path:
        """The file that names the batches."""
        return self.folder / "ledger.csv"

    @property
    def decisions(self) -> Path:
        """The file of what people decided about batches on hold."""
        return self.folder / "decisions.csv"

    def batch_path(self, batch: str) -> Path:
        """The file that holds ``batch``."""
        return self.folder / f"{batch}.safetensors"

    def read_ledger(self) -> list[Entry]:
        """The rows of the ledger, in the order in which they were written; none where there is no ledger.

        (DVC does not run a stage whose ledger is missing.)

        Raises:
          PipelineError: A row is no row of a ledger; the message names the line.
        """
        path = self.ledger
        try:
            text = path.read_text(encoding="utf-8")
            if unmerged.has_marks(text):
                raise PipelineError(unmerged.sentence(str(path)))
            return parse(text, path)
        except FileNotFoundError:
            return []
        except UnicodeDecodeError:
            raise PipelineError(f"{path} is not a table of batches: restore it with `git checkout {path}`") from None

    def write_ledger(self, entries: Sequence[Entry]) -> None:
        """Replaces the ledger, atomically."""
        write_text(self.ledger, ledger_text(entries))

    def read(self, entry: Entry) -> Batch:
        """The samples of a batch.

        Raises:
          PipelineError: Its file is missing or is not the one that the ledger names.
        """
        path, ledger = self.batch_path(entry.batch), self.ledger
        again = f"restore it with `dvc checkout {path}.dvc`, or with `dvc pull {path}.dvc` from a remote"
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise PipelineError(f"{path}, a batch of {ledger}, is missing: {again}") from None
        actual = hashlib.sha256(content).hexdigest()
        if actual != entry.sha256:
            raise PipelineError(f"{path} has SHA-256 {actual[:12]}…, but {ledger} says {entry.sha256[:12]}…: {again}")
        try:
            batch = decode(content)
        except ValueError as error:
            raise PipelineError(f"{path} is not a batch ({error}), though {ledger} names it") from None
        if len(batch.labels) != entry.samples:
            raise PipelineError(
                f"{path} has {len(batch.labels)} samples, but {ledger} says {entry.samples}: restore the ledger with "
                f"`git checkout {ledger}`"
            )
        return batch

    def read_batch(self, entry: Entry) -> Labelled:
        """The images uint8 [n, height, width, channels] and labels uint8 [n] of a batch. Raises as `read`."""
        return self.read(entry).labelled

    def training_samples(self, dataset: RawDataset, published: Labelled) -> TrainingSamples:
        """The published training samples and those of the batches of ``dataset``.

        Raises:
          PipelineError: A batch is missing, changed, or of another image size or number of classes than ``dataset``.
        """
        entries = of_dataset(self.read_ledger(), dataset)
        now = {entry.batch: entry for entry in present(entries)}
        parts, batches = [published], []
        for entry in added(entries):
            batch = self._read_for(dataset, now[entry.batch]) if entry.batch in now else None
            if batch is None:
                batches.append(Arrived(entry.samples, np.arange(0), published[1][:0]))
                continue
            positions = np.arange(entry.samples) if batch.positions is None else batch.positions
            batches.append(Arrived(entry.samples, positions, batch.labels, batch.clients))
            parts.append(batch.labelled)
        images, labels = join(parts) if len(parts) > 1 else published
        return TrainingSamples(
            images, labels, len(published[1]), tuple(batches), tuple(withdrawn_clients(entries, dataset.name))
        )

    def _read_for(self, dataset: RawDataset, entry: Entry) -> Batch:
        batch = self.read(entry)
        if not _fits(batch, dataset.kind):
            raise PipelineError(
                f"{self.batch_path(entry.batch)} has images of {batch.images.shape[1:]} and labels to "
                f"{batch.labels.max()}, but data set '{dataset.name}' has {dataset.image_shape} and {dataset.classes} "
                "classes: another of that name?"
            )
        return batch


def _fits(batch: Batch, kind: Kind) -> bool:
    images, labels = batch.labelled
    if images.shape[1:] != kind.shape or images.dtype != kind.format.samples:
        return False
    if labels.dtype != kind.format.label_type or labels.shape[1:] != kind.label_shape:
        return False
    return kind.format.numbers is not None or int(labels.max()) < kind.classes


def join(parts: Sequence[Labelled]) -> Labelled:
    """Samples of several parts one after the other."""
    images, labels = zip(*parts, strict=True)
    return np.concatenate(images), np.concatenate(labels)
