"""What a coordinator knows of clients at sites, as figures, a table and a picture: their numbers of samples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedpipe.datasets.shards import SiteShards
from fedpipe.figures import picture
from fedpipe.partitioning.skew_measures import gini


def table(sites: Sequence[SiteShards]) -> pd.DataFrame:
    """One row a client: client, site, samples, and an empty entropy, since labels are not known."""
    names = np.repeat([site.name for site in sites], [len(site.samples) for site in sites])
    samples = np.concatenate([site.samples for site in sites])
    return pd.DataFrame({"client": np.arange(len(samples)), "site": names, "samples": samples, "entropy": np.nan})


def figures(clients: pd.DataFrame) -> dict[str, Any]:
    """The figures of the whole partition, as far as numbers of samples say them."""
    samples = clients["samples"].to_numpy()
    by_site = clients.groupby("site", sort=False)["samples"]
    return {
        "clients": len(clients),
        "samples": int(samples.sum()),
        "sizes": {
            "smallest": int(samples.min()),
            "median": float(np.median(samples)),
            "largest": int(samples.max()),
            "gini": round(gini(samples), 6),
        },
        "sites": {str(site): {"clients": len(own), "samples": int(own.sum())} for site, own in by_site},
    }


def draw(clients: pd.DataFrame, title: str, path: Path) -> None:
    """Draws each client's number of samples, by site, to ``path``."""
    with picture(path, 8, 3.8) as figure:
        axes = figure.subplots()
        for number, (site, own) in enumerate(clients.groupby("site", sort=False)):
            axes.bar(own["client"], own["samples"], width=1.0, color=f"C{number}", label=site)
        axes.set(xlabel="client", ylabel="samples", title=title)
        axes.legend()
