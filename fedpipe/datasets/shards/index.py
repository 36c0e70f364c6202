"""The index of shards: the SHA-256 of each client's samples, which reveals a changed one."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fedpipe.datasets.shards.manifest import MANIFEST, Manifest, Site
from fedpipe.datasets.shards.reading import RESTORE, Shards
from fedpipe.errors import PipelineError

_INDEX = "shards.csv"


def write_index(folder: Path, samples: np.ndarray, sums: Sequence[str]) -> str:
    """Writes the index: how many samples each client has, and the SHA-256 of its shard.

    Returns:
      The digest of all shards: the SHA-256 over theirs, in the order of the clients.
    """
    index = pd.DataFrame({"client": np.arange(len(sums)), "samples": samples, "sha256": sums})
    index.to_csv(folder / _INDEX, index=False)
    return digest_of(sums)


def read_index(folder: Path) -> pd.DataFrame:
    """The index of the shards: columns client, samples, sha256; one row per client, in order.

    Raises:
      PipelineError: It is missing or has other columns.
    """
    path = folder / _INDEX
    try:
        index = pd.read_csv(path, dtype={"sha256": str}, keep_default_na=False)
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing: run the partition stage first (dvc repro)") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError):
        raise PipelineError(f"{path} is not a table of shards: run the partition stage again") from None
    if list(index.columns) != ["client", "samples", "sha256"]:
        raise PipelineError(f"{path} must have the columns client, samples, sha256")
    return index


def sites_of(sums: Sequence[str], clients: Sequence[int]) -> tuple[Site, ...]:
    """Sites of so many ``clients`` each, numbered from 1 on, whose shards have the SHA-256 ``sums``."""
    ends = np.cumsum(clients).tolist()
    parts = [sums[end - count : end] for count, end in zip(clients, ends, strict=True)]
    return tuple(
        Site(name=f"site-{number}", clients=len(part), digest=digest_of(part)) for number, part in enumerate(parts, 1)
    )


def digest_of(sums: Iterable[str]) -> str:
    """The digest of some shards, from the SHA-256 of each; or of some sites, from the digest of each."""
    return hashlib.sha256("".join(sums).encode()).hexdigest()


def _belong_together(index: pd.DataFrame, manifest: Manifest) -> bool:
    """Whether the index has the clients of the manifest, and their SHA-256 make its digests."""
    sums = index["sha256"].tolist()
    if index["client"].tolist() != list(range(manifest.clients)):
        return False
    if manifest.sites is None:
        return digest_of(sums) == manifest.digest
    digests = [site.digest for site in manifest.sites]
    own = [digest_of(sums[clients.start : clients.stop]) for _, clients in manifest.ranges()]
    return (manifest.samples_at == "sites" or own == digests) and digest_of(digests) == manifest.digest


def open_shards(folder: Path) -> Shards:
    """The shards of the manifest in ``folder``; without a file where samples lie at sites.

    A client whose number of samples is withheld counts as one with a sample, so that the clients keep their ids.

    Raises:
      PipelineError: There are none, or the file is damaged.
    """
    manifest = Manifest.read(folder)
    if manifest.samples_at is None:
        return Shards.open(folder)
    samples = read_index(folder)["samples"].to_numpy()
    return Shards.elsewhere(folder, manifest.kind, np.where(samples < 0, 1, samples))


def verify_shards(folder: Path, manifest: Manifest) -> None:
    """Compares the index with the manifest, and every shard with the index, reading one after the other.

    Raises:
      PipelineError: The index is another partition's, the file is missing or cut short, or a client's shard is changed;
        the message names it.
    """
    index = read_index(folder)
    if not _belong_together(index, manifest):
        raise PipelineError(f"{folder / _INDEX} and {MANIFEST} do not belong together: {RESTORE}")
    if manifest.samples_at == "sites":  # which verify their own
        return
    shards = Shards.open(folder)
    kind = manifest.kind
    stored = (shards.image.shape, shards.image.type, shards.label.shape, shards.label.type)
    described = (kind.shape, np.dtype(kind.format.samples), kind.label_shape, kind.format.label_type)
    if np.diff(shards.offsets).tolist() != index["samples"].tolist() or stored != described:
        raise PipelineError(f"{shards.path} and {_INDEX} do not belong together: {RESTORE}")
    with shards.path.open("rb") as images, shards.path.open("rb") as labels:
        images.seek(shards.images_start)
        labels.seek(shards.labels_start)
        for client, (samples, expected) in enumerate(zip(index["samples"], index["sha256"], strict=True)):
            digest = sha256(images.read(samples * shards.image.bytes), labels.read(samples * shards.label.bytes))
            if digest != expected:
                raise PipelineError(
                    f"{shards.path}: the shard of client {client} is changed (SHA-256 {digest[:12]}…, "
                    f"{_INDEX} says {expected[:12]}…): {RESTORE}"
                )


def sha256(images: bytes | memoryview, labels: bytes | memoryview) -> str:
    """The SHA-256 of a shard: over the bytes of its images, then of its labels."""
    digest = hashlib.sha256(images)
    digest.update(labels)
    return digest.hexdigest()
