"""What models are measured on, and where that is refused."""

from pathlib import Path

import numpy as np
import pytest

from fedpipe.datasets.shards import SiteShards, write_at_sites
from fedpipe.errors import PipelineError
from operations.promote.measure import Benchmark


def test_clients_at_sites_are_named(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/clients").mkdir(parents=True)
    (tmp_path / "data/raw").symlink_to(raw)
    sites = [SiteShards(name, "a" * 64, np.array([3, 4])) for name in ("hospital-a", "hospital-b")]
    write_at_sites(Path("data/clients"), "mnist", (28, 28, 1), 10, sites)
    with pytest.raises(
        PipelineError, match=r"clients' samples, which are at sites .* promoted by hand, by what metrics"
    ):
        Benchmark.read(100)
