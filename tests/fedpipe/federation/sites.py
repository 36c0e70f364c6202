"""Sites in this process, and a link that hands them bytes: all of a federation but the network."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import AGGREGATORS
from fedpipe.datasets.shards import Manifest, SiteShards, write_at_sites, write_shards
from fedpipe.errors import SitesLostError
from fedpipe.federation.answers import raise_lost
from fedpipe.federation.coordinator import Federation
from fedpipe.federation.counts import reported
from fedpipe.federation.pinned_roster import PinnedRoster
from fedpipe.federation.policy import Policy
from fedpipe.federation.secure_site import Party
from fedpipe.federation.secure_sums import SecureSums
from fedpipe.federation.site import Site
from fedpipe.federation.site_folder import SiteFolder
from fedpipe.federation.site_key import SiteKey
from fedpipe.samples.kind import PIXELS, Format

CLIENTS = [3, 5, 4]  # of each site
NAMES = ["site-1", "site-2", "site-3"]
SAMPLES = [5, 8, 3, 9, 4, 7, 6, 2, 10, 1, 8, 5]  # of each client
HELD_OUT = [2, 3, 0, 1, 2, 2, 1, 3, 4, 1, 2, 2]  # samples of each client on which nobody trains
# Every choice, and more rounds than a test has.
OPEN: dict[str, Any] = {
    "algorithms": "any",
    "aggregators": "any",
    "models": "any",
    "attacks": "any",
    "client_losses": True,
}


class Sites:
    """Sites in a folder each, the pooled shards, and the folder of a coordinator."""

    def __init__(
        self,
        folder: Path,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        clients: Sequence[int] = tuple(CLIENTS),
        classes: int = 10,
        sample_format: Format = PIXELS,
        **policy: Any,
    ) -> None:
        """``images`` and ``labels``: as of `write_shards`; ``policy``: of all sites, by default `OPEN`."""
        self.clients = list(clients)
        self.names = [f"site-{number}" for number in range(1, len(clients) + 1)]
        self.folder, self.pooled, self.coordinator = folder, folder / "pooled", folder / "coordinator"
        self.policy = Policy.model_validate({"least_clients": 1, "least_samples": 1} | (policy or OPEN))
        members = np.split(np.arange(sum(SAMPLES)), np.cumsum(SAMPLES)[:-1])
        for each in (self.pooled, self.coordinator, *(self.place(name).shards for name in self.names)):
            each.mkdir(parents=True)
        kind: Any = {"classes": classes, "sample_format": sample_format}
        write_shards(self.pooled, "small", images, labels, members, sites=self.clients, **kind)
        ends = np.cumsum(clients)
        owned = []
        for name, count, end in zip(self.names, clients, ends, strict=True):
            own = members[end - count : end]
            manifest = write_shards(self.place(name).shards, "small", images, labels, own, **kind)
            counts = self.policy.counts
            samples = reported(np.array([len(each) for each in own]), counts)
            digest = SiteKey.of_digests(self.place(name).logs).digest_of(manifest)
            owned.append(SiteShards(name, digest, samples, None if counts == "exact" else counts))
        write_at_sites(self.coordinator, "small", images.shape[1:], classes, owned, sample_format)
        self.about = ""
        self.running: dict[str, Site] = {}
        self.identities = {name: Ed25519PrivateKey.generate() for name in self.names}
        keys = {name: identity.public_key().public_bytes_raw().hex() for name, identity in self.identities.items()}
        self.roster = PinnedRoster.of(keys)
        self.run = 0  # number of the last training that was begun
        self.questions: list[tuple[str, bytes]] = []  # site and question, in order
        self.before: Callable[[str, bytes], None] = lambda site, question: None  # called with each question
        self.changed: Callable[[str, bytes], bytes] = lambda site, question: question  # what arrives of a question

    def place(self, name: str) -> SiteFolder:
        """The files of a site."""
        own = self.folder / name
        return SiteFolder(own / "clients", own / "state", own / "personal", own / "logs", own / "noise", own / "tests")

    def hold_out(self, images: np.ndarray, labels: np.ndarray, sizes: Sequence[int]) -> Path:
        """Gives each client so many held-out samples, at its site and in a folder beside the pooled shards."""
        members = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
        pooled = self.folder / "pooled_tests"
        ends = np.cumsum(self.clients).tolist()
        sites = [self.place(name) for name in self.names]
        placed = zip(sites, self.clients, ends, strict=True)
        own = {site.tests: members[end - count : end] for site, count, end in placed}
        shards = {pooled: self.pooled, **{site.tests: site.shards for site in sites}}
        for folder, parts in {pooled: members, **own}.items():
            assert folder is not None
            folder.mkdir()
            digest = Manifest.read(shards[folder]).digest
            of = Manifest.read(shards[folder])
            write_shards(
                folder, "small", images, labels, parts, of.classes, clients_digest=digest, sample_format=of.format
            )
        return pooled

    def start(self, *names: str) -> None:
        """Starts sites, all of them by default."""
        for name in names or self.names:
            party = Party(self.identities[name], self.roster)
            self.running[name] = Site(name, self.place(name), self.policy, party=party)

    def stop(self, *names: str) -> None:
        """Ends sites, all of them by default."""
        for name in names or tuple(self.running):
            self.running.pop(name).close()

    def connected(self) -> list[str]:
        """The sites that run."""
        return list(self.running)

    def ask(
        self, questions: Mapping[str, bytes], lost: Callable[[SitesLostError], None] = raise_lost
    ) -> Iterator[tuple[str, bytes]]:
        """The link."""
        for name, question in questions.items():
            self.questions.append((name, question))
            self.before(name, question)
            if name in self.running:
                yield name, self.running[name].answer(self.changed(name, question))
            else:
                lost(SitesLostError(f"{name} was not connected for 5 s", [name]))

    @contextmanager
    def training(
        self,
        settings: Train,
        training: str = "0123456789abcdef",
        journals: Path | None = None,
        quorum: int | None = None,
    ) -> Iterator[Federation]:
        """A federation that all sites have joined; ``journals`` is the folder of its secure sums, a new one if None."""
        secure = None
        if AGGREGATORS.of(settings.aggregator).SUMS_INTEGERS:
            self.run += 1
            secure = SecureSums(self.roster, journals or self.folder / f"secure-{self.run}")
        federation = Federation(self, Manifest.read(self.coordinator), settings, training, secure, quorum)
        federation.join()
        yield federation


def small(training_set: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Real images of 8 x 8 pixels, as many as `Sites` have."""
    images, labels = training_set
    return images[: sum(SAMPLES), 2:26:3, 2:26:3].copy(), labels[: sum(SAMPLES)]


@contextmanager
def with_held_out(folder: Path, training_set: tuple[np.ndarray, np.ndarray], **options: Any) -> Iterator[Sites]:
    """Running sites whose clients also have `HELD_OUT` real images of 8 x 8 pixels; ``options`` as of `Sites`."""
    sites = Sites(folder, *small(training_set), **options)
    images, labels = training_set
    after = slice(sum(SAMPLES), sum(SAMPLES) + sum(HELD_OUT))
    sites.hold_out(images[after, 2:26:3, 2:26:3].copy(), labels[after], HELD_OUT)
    sites.start()
    try:
        yield sites
    finally:
        sites.stop()
