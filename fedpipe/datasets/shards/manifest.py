"""The manifest of shards: their content, for everything downstream."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from fedpipe.errors import PipelineError
from fedpipe.json_model import read_json
from fedpipe.samples.kind import PIXELS, Format, Kind, Shape

MANIFEST = "manifest.json"


class Site(BaseModel):
    """A site: the owner of some clients, which follow those of the site before it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    clients: int
    digest: str  # of a folder with its shards alone; at a site of a federation, with the site's own key
    counts: Literal["rounded", "withheld"] | None = None  # how its clients' numbers of samples differ from exact ones


class Manifest(BaseModel):
    """The contents of a folder of shards. Nothing downstream assumes an image size or a number of classes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str
    image_shape: Shape  # of a sample: height, width, channels of images
    classes: int  # 0 where labels are numbers
    clients: int
    samples: int  # over all shards; at sites, as far as these tell it
    digest: str  # SHA-256 over the shards' SHA-256, in the order of the clients; with sites, over the sites' digests
    # In the file only where they say something, so that tests from elsewhere leave the clients' bytes as they are.
    held_out: Literal["fraction"] | None = None  # of clients: what their tests took away from their samples
    clients_digest: str | None = None  # of held-out samples: the digest of the clients that do not train on them
    sites: tuple[Site, ...] | None = None  # in the order of their clients; none where all samples have one owner
    samples_at: Literal["sites"] | None = None  # where the samples lie, if not in this folder
    format: Format = PIXELS
    numbers: tuple[int, ...] | None = None  # of the clients in the partition, where others are held out

    @property
    def kind(self) -> Kind:
        """The kind of samples and labels."""
        return Kind(self.image_shape, self.classes, self.format)

    def write(self, folder: Path) -> None:
        """Writes ``folder``'s manifest."""
        text = self.model_dump_json(indent=2, exclude_defaults=True) + "\n"
        (folder / MANIFEST).write_text(text, encoding="utf-8")

    @property
    def site_of(self) -> np.ndarray | None:
        """The number of each client's site, int64 [clients]; None without sites."""
        if self.sites is None:
            return None
        return np.repeat(np.arange(len(self.sites)), [site.clients for site in self.sites])

    @property
    def client_numbers(self) -> np.ndarray:
        """The number of each client in the partition, int64 [clients], ascending."""
        return np.arange(self.clients) if self.numbers is None else np.array(self.numbers, np.int64)

    @property
    def counts_are_exact(self) -> bool:
        """Whether each client's number of samples is known."""
        return all(site.counts is None for site in self.sites or ())

    def ranges(self) -> Iterator[tuple[Site, range]]:
        """Each site and the ids of its clients."""
        first = 0
        for site in self.sites or ():
            yield site, range(first, first + site.clients)
            first += site.clients

    @staticmethod
    def read(folder: Path) -> "Manifest":
        """Reads ``folder``'s manifest.

        Raises:
          PipelineError: It is missing or is not a manifest.
        """
        return read_json(
            Manifest,
            folder / MANIFEST,
            missing="run the partition stage first (dvc repro)",
            wrong="is not a manifest of shards: run the partition stage again",
        )


def read_held_out(folder: Path, clients: Manifest) -> Manifest:
    """Reads the manifest of the clients' test samples or of the validation samples in ``folder``; there may be none.

    Raises:
      PipelineError: It is missing, is not a manifest, or the samples were held out from other clients than ``clients``.
    """
    held_out = Manifest.read(folder)
    if held_out.clients and held_out.clients_digest != clients.digest:
        raise PipelineError(
            f"{folder} holds samples of another partition than the one that is there (it may have been stopped "
            "half-way): run the partition stage again (dvc repro --force partition)"
        )
    return held_out
