"""The sites of a federation as they measure models for a promotion, on held-out samples that only they have."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import layout
from fedpipe.datasets.shards import Manifest
from fedpipe.networks.network import Network, Weights

if TYPE_CHECKING:
    from fedpipe.federation.answers import Link
    from fedpipe.federation.measuring import AtSites
    from fedpipe.federation.pinned_roster import PinnedRoster


@dataclass
class MeasuringSites:
    """Sites that are connected."""

    link: "Link"
    manifest: Manifest  # of the clients
    quorum: int | None = None  # how many sites answer at least while others are lost; None: all
    roster: "PinnedRoster | None" = None  # where figures leave sites in a secure sum only
    because: dict[str, str] = field(default_factory=dict)  # why a site tells nothing of held-out samples

    def ask(self, model: Network, weights: Weights, batch_size: int) -> "AtSites":
        """Has all sites measure a model.

        Raises:
          PipelineError: A site is not connected for too long, has other shards, or does not allow the model.
        """
        from fedpipe.federation.measuring import ask_sites

        of_sites = ask_sites(self.link, self.manifest, model, weights, batch_size, self.quorum, self.roster)
        self.because |= of_sites.because
        return of_sites

    def notes(self) -> list[str]:
        """Sentences on sites that had no part in the comparison."""
        return [f"not measured at {site}: {reason}" for site, reason in sorted(self.because.items())]


@contextmanager
def measuring_sites(manifest: Manifest) -> Iterator[MeasuringSites]:
    """Listens for the sites of ``manifest`` as federation.yaml says.

    Raises:
      PipelineError: The file or a certificate is missing or not as it should be, or the port is in use.
    """
    from fedpipe.federation.secure_measuring import roster_of
    from fedpipe.links.opening import open_link
    from fedpipe.links.settings import LinkSettings

    settings = LinkSettings.read(layout.FEDERATION, layout.FEDERATION_CERTIFICATES)
    names = [site.name for site in manifest.sites or ()]
    roster = roster_of(layout.PARAMS, layout.ROSTER)
    print(f"promote: waits for {', '.join(names)}, which measure on their samples", file=sys.stderr)
    with open_link(settings, names, lambda line: print(f"promote: {line}", file=sys.stderr)) as link:
        yield MeasuringSites(link, manifest, settings.quorum, roster)
