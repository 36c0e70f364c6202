"""Sites and a coordinator in one process, and the steps of a round between them."""

import hashlib
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedpipe.secure_aggregation.coordinator import Coordinator, Phase
from fedpipe.secure_aggregation.coordinator_messages import Begin
from fedpipe.secure_aggregation.roster import Roster
from fedpipe.secure_aggregation.setting import Setting
from fedpipe.secure_aggregation.site import Site
from fedpipe.secure_aggregation.vector import QUANTITY, Vector, word

MODEL = hashlib.sha256(b"model").digest()


def fixed_random(name: bytes) -> Callable[[int], bytes]:
    """Bytes that are the same in each test."""
    calls = count()
    return lambda size: hashlib.shake_256(name + b" %d" % next(calls)).digest(size)


def identity(number: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"identity %d" % number).digest())


def public(number: int) -> bytes:
    return identity(number).public_key().public_bytes_raw()


def setting_of(sites: Collection[int], colluding: int = 0, training: bytes = b"training", **sizes: int) -> Setting:
    roster = Roster(tuple(public(number) for number in sites), colluding)
    return Setting(hashlib.sha256(training).digest(), roster, **({"bits": 32, "length": 10, "quantities": 2} | sizes))


def vectors(setting: Setting) -> dict[int, Vector]:
    """Of each site: weights anywhere below 2^bits, and quantities."""
    drawn = {}
    for site in setting.roster.sites:
        generator = np.random.default_rng([setting.bits, site])
        weights = generator.integers(0, 1 << setting.bits, setting.length, dtype=np.uint64)
        quantities = generator.integers(0, 1 << 40, setting.quantities, dtype=np.uint64)
        drawn[site] = Vector(weights.astype(word(setting.bits)), quantities.astype(QUANTITY))
    return drawn


def expected(setting: Setting, summands: Mapping[int, Vector], survivors: Collection[int]) -> tuple[bytes, bytes]:
    """The sum's bytes, in the integers of Python."""
    weights = [sum(int(summands[s].weights[i]) for s in survivors) % 2**setting.bits for i in range(setting.length)]
    quantities = [sum(int(summands[s].quantities[i]) for s in survivors) % 2**64 for i in range(setting.quantities)]
    return np.array(weights, word(setting.bits)).tobytes(), np.array(quantities, QUANTITY).tobytes()


@dataclass
class Federation:
    """Sites with journals in a folder, and the coordinator of the present attempt."""

    folder: Path
    setting: Setting
    numbers: tuple[int, ...] = ()  # whose identities the sites have; 1, 2, ... if empty
    fixed: bool = False  # whether secrets are the same in each run
    sites: dict[int, Site] = field(default_factory=dict)
    coordinator: Coordinator = None  # type: ignore[assignment]
    summands: dict[int, Vector] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.summands = vectors(self.setting)
        for number in self.setting.roster.sites:
            self.restart(number)

    def identity_of(self, site: int) -> int:
        return self.numbers[site - 1] if self.numbers else site

    def restart(self, site: int) -> None:
        """As after kill -9: nothing stays but the journal."""
        if site in self.sites:
            self.sites[site].close()
        number = self.identity_of(site)
        random = fixed_random(b"site %d" % number) if self.fixed else os.urandom
        self.sites[site] = Site(identity(number), self.setting, self.folder / f"site-{number}", random)

    def close(self) -> None:
        for site in self.sites.values():
            site.close()

    def begin(self, round_number: int = 1, attempt: int = 0, model: bytes = MODEL) -> None:
        begin = Begin.of(self.setting, round_number, attempt, model)
        name = f"{self.setting.training.hex()[:8]}-{round_number}-{attempt}"
        self.coordinator = Coordinator(self.setting, begin, self.folder / name)

    def restart_coordinator(self) -> None:
        journal = self.coordinator._journal.path
        self.coordinator = Coordinator(self.setting, self.coordinator.begin, journal)

    def answer(self, site: int, request: bytes, phase: Phase | None = None) -> bytes:
        phase = phase or self.coordinator.phase
        member = self.sites[site]
        if phase == Phase.MASK:
            return member.mask(request, self.summands[site].copy)
        if phase == Phase.KEYS:
            return member.keys(request, self.coordinator.begin.model)
        return {Phase.SHARE: member.share, Phase.AGREE: member.agree, Phase.REVEAL: member.reveal}[phase](request)

    def phase(self, without: Collection[int] = ()) -> dict[int, bytes]:
        """One phase, in which some sites do not answer; returns the answers."""
        answers = {}
        for site, request in self.coordinator.requests().items():
            if site not in without:
                answers[site] = self.answer(site, request)
                self.coordinator.receive(site, answers[site])
        self.coordinator.close()
        return answers

    def until(self, phase: Phase) -> None:
        while self.coordinator.phase != phase:
            self.phase()

    def run(self, dropouts: Mapping[Phase, Collection[int]] | None = None) -> Vector:
        """All phases that are left; a site that drops out in one phase is not asked again."""
        while self.coordinator.phase != Phase.DONE:
            self.phase((dropouts or {}).get(self.coordinator.phase, ()))
        return self.coordinator.result()

    def is_sum_of(self, survivors: Collection[int]) -> bool:
        result = self.coordinator.result()
        got = result.weights.tobytes(), result.quantities.tobytes()
        return got == expected(self.setting, self.summands, survivors)
