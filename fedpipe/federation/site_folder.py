"""The files of a site."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedpipe.datasets.shards import Manifest, Shards


@dataclass(frozen=True)
class SiteFolder:
    """Where a site's files are."""

    shards: Path
    state: Path  # what clients keep
    personal: Path  # the clients' personal models, a file per training
    logs: Path
    noise_key: Path  # of the noise of its clients (site_key.py)
    tests: Path | None = None  # the clients' held-out samples, if they have any

    def manifest(self) -> Manifest:
        """The manifest of the shards, as it is now. Raises PipelineError as of `Manifest.read`."""
        return Manifest.read(self.shards)

    def samples(self) -> np.ndarray:
        """How many samples each client has, int64 [clients]."""
        return np.diff(Shards.open(self.shards).offsets)
