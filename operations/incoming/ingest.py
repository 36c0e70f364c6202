"""Moves the batches of data/incoming/ into the pool, or aside with the reason.

The ledger is written in one go after all files are in their place, and the incoming files go last: an ingest that was
killed is simply done again.
"""

import hashlib
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import layout
from fedpipe.atomic import atomic_file, write_text
from fedpipe.datasets import pool
from fedpipe.datasets.pool import Entry, Pool
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import PipelineError
from operations import commands
from operations.incoming.batches import EXPECTED, Candidate, batch_of, find, read

INCOMING = Path("data/incoming")
REJECTED = Path("data/rejected")
REASON_SUFFIX = ".reason.txt"
_LONGEST_NAME = 200  # bytes; with a digest and the suffix it stays below the 255 that systems take


@dataclass(frozen=True)
class Ingested:
    """What became of the incoming batches."""

    accepted: list[Entry]
    rejected: dict[str, str]  # name to reason
    known: list[str]  # were in the pool already, sample for sample
    waiting: list[str]  # left alone: a file or a hash of them is not there yet


def ingest(dataset: RawDataset) -> Ingested:
    """Checks every batch in data/incoming/, adds the good ones to the pool, puts the others aside.

    Raises:
      PipelineError: The ledger is damaged, or DVC failed; nothing is lost, and another ingest goes on.
    """
    ours = Pool(layout.POOL)
    entries = ours.read_ledger()
    version = pool.version(entries) + 1
    result = Ingested([], {}, [], [])
    done: list[Candidate] = []
    candidates, strays = find(INCOMING)
    for path in strays:
        _put_aside(path.name, [path], f"{path.name} is no batch; expected: {EXPECTED}", result)
    for candidate in candidates:
        if candidate.is_on_its_way():
            result.waiting.append(candidate.name)
            continue
        try:
            images, labels = read(candidate, dataset)
            content = pool.encode(images, labels)
            sha256 = hashlib.sha256(content).hexdigest()
            known = _known(candidate.name, dataset, sha256, [*entries, *result.accepted])
        except PipelineError as error:
            _put_aside(candidate.name, candidate.files, str(error), result)
            continue
        done.append(candidate)
        # Also of a batch that is known: its file may have been lost, and these are the bytes that DVC knows it by.
        with atomic_file(ours.batch_path(candidate.name)) as partial:
            partial.write_bytes(content)
        if known:
            result.known.append(candidate.name)
            continue
        result.accepted.append(
            Entry(version=version, dataset=dataset.name, batch=candidate.name, samples=len(labels), sha256=sha256)
        )
    if done:
        commands.dvc("add", *(str(ours.batch_path(candidate.name)) for candidate in done))
    if result.accepted:
        ours.write_ledger([*entries, *result.accepted])
    for candidate in done:
        _forget_rejected(candidate.name)
        for path in candidate.files:
            path.unlink()
    return result


def _known(name: str, dataset: RawDataset, sha256: str, entries: Sequence[Entry]) -> bool:
    """Whether exactly this batch is in the pool.

    Raises:
      PipelineError: Its name or its samples are there, but not both.
    """
    for entry in entries:
        same_samples = entry.sha256 == sha256 and entry.dataset == dataset.name
        if same_samples and entry.batch == name:
            return True
        if same_samples:
            raise PipelineError(
                f"it holds the same samples as batch '{entry.batch}', in the pool since version {entry.version}"
            )
        if entry.batch == name:
            raise PipelineError(
                f"the pool has another batch of the name '{name}' since version {entry.version}: "
                "give this one a name of its own"
            )
    return False


def _put_aside(name: str, files: Sequence[Path], reason: str, result: Ingested) -> None:
    """Moves ``files`` to data/rejected/ (over what a former try of that name left there) and says why.

    The sender chose the names. In data/rejected/ they are safe ones, and the reason holds the original.
    """
    safe_name = _safe(name)
    if safe_name != name:
        reason = f"{reason} (its name is '{name}')"
    # A file's name may be no text, or several lines.
    reason = " ".join(reason.encode(errors="backslashreplace").decode().split())
    # First the reason: files that are moved are never without one.
    write_text(REJECTED / f"{safe_name}{REASON_SUFFIX}", reason + "\n")
    for path in files:
        target = REJECTED / _safe(path.name)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        shutil.move(path, target)
        for inner in sorted(target.rglob("*"), reverse=True):  # what is in a folder before the folder
            inner.rename(inner.with_name(_safe(inner.name)))
    result.rejected[name] = reason


def _safe(name: str) -> str:
    """A file's name that every system and GitHub's upload of artifacts takes; another one has a digest of ``name``."""
    safe = re.sub(r"[^\w.-]", "_", name).encode()[:_LONGEST_NAME].decode(errors="ignore")
    if safe == name and not name.endswith("."):
        return name
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:8]
    stem, dot, suffix = safe.rstrip(".").rpartition(".")
    return f"{stem}-{digest}{dot}{suffix}" if stem else f"{suffix}-{digest}"


def _forget_rejected(name: str) -> None:
    """Removes what former tries of batch ``name`` left in data/rejected/: it is good now."""
    for path in sorted(REJECTED.iterdir()) if REJECTED.is_dir() else []:
        if path.name == f"{name}{REASON_SUFFIX}" or (batch_of(path.name) == name and path.is_file()):
            path.unlink()
