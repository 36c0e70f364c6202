"""A folder of shards without samples: a coordinator's knowledge of clients whose samples are at sites."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from fedpipe.datasets.shards.index import digest_of, write_index
from fedpipe.datasets.shards.manifest import Manifest, Site
from fedpipe.samples.kind import PIXELS, Format, Shape


@dataclass(frozen=True, eq=False)
class SiteShards:
    """A site's report on its shards."""

    name: str
    digest: str  # of the folder of its shards, with the site's own key
    samples: np.ndarray  # int64 [clients], how many each client has; -1 where that is withheld
    counts: Literal["rounded", "withheld"] | None = None  # how these numbers differ from exact ones


def write_at_sites(
    folder: Path,
    dataset: str,
    image_shape: Shape,
    classes: int,
    sites: Sequence[SiteShards],
    sample_format: Format = PIXELS,
) -> Manifest:
    """Writes manifest and index of clients at ``sites``, in this order; the index has no SHA-256 of a client.

    Such a sum would tell who knows a client's few samples that these are the ones.
    """
    samples = np.concatenate([site.samples for site in sites])
    write_index(folder, samples, [""] * len(samples))
    manifest = Manifest(
        dataset=dataset,
        image_shape=image_shape,
        classes=classes,
        clients=len(samples),
        samples=int(samples[samples > 0].sum()),
        digest=digest_of(site.digest for site in sites),
        sites=tuple(
            Site(name=site.name, clients=len(site.samples), digest=site.digest, counts=site.counts) for site in sites
        ),
        samples_at="sites",
        format=sample_format,
    )
    manifest.write(folder)
    return manifest
