"""A coordinator's knowledge of clients at sites, as figures, a table and a picture: their numbers of samples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedpipe.datasets.shards import SiteShards
from fedpipe.figures import picture
from fedpipe.partitioning.skew_measures import gini


def table(sites: Sequence[SiteShards]) -> pd.DataFrame:
    """One row a client: client, site, samples as its site tells them, and an empty entropy: labels are not known."""
    names = np.repeat([site.name for site in sites], [len(site.samples) for site in sites])
    samples = np.concatenate([site.samples for site in sites])
    counts = pd.Series(samples, dtype="Int64").mask(samples < 0)
    return pd.DataFrame({"client": np.arange(len(samples)), "site": names, "samples": counts, "entropy": np.nan})


def figures(clients: pd.DataFrame) -> dict[str, Any]:
    """The figures of the whole partition, as far as numbers of samples say them; of sites that withhold them, none."""
    by_site = {str(site): own["samples"] for site, own in clients.groupby("site", sort=False)}
    sums = {site: {"samples": int(own.sum())} if own.notna().all() else {} for site, own in by_site.items()}
    summary: dict[str, Any] = {"clients": len(clients)}
    if all(sums.values()):
        samples = clients["samples"].to_numpy(np.int64)
        sizes = {"smallest": int(samples.min()), "median": float(np.median(samples)), "largest": int(samples.max())}
        summary |= {"samples": int(samples.sum()), "sizes": sizes | {"gini": round(gini(samples), 6)}}
    return summary | {"sites": {site: {"clients": len(own)} | sums[site] for site, own in by_site.items()}}


def plot(clients: pd.DataFrame, title: str, path: Path) -> None:
    """Draws each client's number of samples, by site, to ``path``."""
    with picture(path, 8, 3.8) as figure:
        axes = figure.subplots()
        for number, (site, own) in enumerate(clients.groupby("site", sort=False)):
            is_told = own["samples"].notna().all()
            label = str(site) if is_told else f"{site}: {len(own):,} clients, sizes withheld"
            axes.bar(own["client"], own["samples"].fillna(0).astype(int), width=1.0, color=f"C{number}", label=label)
        axes.set(xlabel="client", ylabel="samples", title=title)
        axes.legend()
