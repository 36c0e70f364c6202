"""The cost of a secure sum: CPU seconds and bytes of one round, for each site and for the coordinator.

All sites and the coordinator run in this process, one after another, with journals on the disk. Seconds are CPU seconds
of the process, the median over the sites; they include the messages' bytes and the syncing of journals. Each line has
compared the sum's bits with the sum of the integers.
"""

import argparse
import hashlib
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.results import store
from fedpipe.secure_aggregation.coordinator import Coordinator, Phase
from fedpipe.secure_aggregation.coordinator_messages import Begin
from fedpipe.secure_aggregation.masks import KEY_BYTES, Mask, add_masks
from fedpipe.secure_aggregation.roster import Roster
from fedpipe.secure_aggregation.setting import Setting
from fedpipe.secure_aggregation.site import Site
from fedpipe.secure_aggregation.vector import QUANTITY, Vector, word

QUANTITIES = 4  # weight of the mean, examples, loss, correct answers
NETWORKS = {"logistic_regression": 7_850, "mcmahan_2nn": 199_210, "mcmahan_cnn": 1_663_370}
MODEL = hashlib.sha256(b"model").digest()
SITES = ((3, 0), (10, 0), (10, 1), (30, 0), (30, 3), (100, 0), (100, 10))
HEADER = (
    f"{'weights':>10} {'bits':>4} {'sites':>5} {'lost':>4} | {'site s':>7} {'of masks':>8} | {'coordinator s':>13} | "
)
HEADER += f"{'update':>10} {'up besides':>10} {'down':>8}"


class Costs:
    """Of each site, and of the coordinator."""

    def __init__(self) -> None:
        self.seconds: dict[int, float] = defaultdict(float)  # by site
        self.sent: dict[int, int] = defaultdict(int)
        self.received: dict[int, int] = defaultdict(int)
        self.coordinator = 0.0

    def of_site(self, site: int, step: Callable[..., bytes], request: bytes, *more: Any) -> bytes:
        """A step of a site."""
        begin = time.process_time()
        answer = step(request, *more)
        self.seconds[site] += time.process_time() - begin
        self.sent[site] += len(answer)
        self.received[site] += len(request)
        return answer

    def of_coordinator(self, step: Callable[..., Any], *arguments: Any) -> Any:
        """A step of the coordinator."""
        begin = time.process_time()
        result = step(*arguments)
        self.coordinator += time.process_time() - begin
        return result


def federation(folder: Path, sites: int, bits: int, length: int) -> tuple[Setting, dict[int, Site]]:
    """Sites that trust each other but for a fifth."""
    identities = [Ed25519PrivateKey.generate() for _ in range(sites)]
    roster = Roster(tuple(identity.public_key().public_bytes_raw() for identity in identities), sites // 5)
    setting = Setting(bytes(32), roster, bits, length, QUANTITIES)
    return setting, {
        number: Site(identity, setting, folder / f"site-{number}") for number, identity in enumerate(identities, 1)
    }


def drawn(setting: Setting) -> dict[int, Vector]:
    """Integers of all sites."""
    generator, summands = np.random.default_rng(1), {}
    for site in setting.roster.sites:
        weights = generator.integers(0, 1 << setting.bits, setting.length, dtype=np.uint64)
        quantities = generator.integers(0, 1 << 40, setting.quantities, dtype=np.uint64)
        summands[site] = Vector(weights.astype(word(setting.bits)), quantities.astype(QUANTITY))
    return summands


def one_round(
    setting: Setting, sites: dict[int, Site], summands: dict[int, Vector], lost: Collection[int], file: Path
) -> Costs:
    """A round in which ``lost`` leave before they send their vector. Raises ValueError if the sum has other bits."""
    costs = Costs()
    coordinator = costs.of_coordinator(Coordinator, setting, Begin.of(setting, 1, 0, MODEL), file)
    while coordinator.phase != Phase.DONE:
        for number, request in costs.of_coordinator(coordinator.requests).items():
            site = sites[number]
            steps = (site.keys, site.share, site.mask, site.agree, site.reveal)
            if coordinator.phase == Phase.MASK and number in lost:
                continue
            more = {Phase.KEYS: (MODEL,), Phase.MASK: (lambda number=number: summands[number].copy(),)}
            answer = costs.of_site(number, steps[coordinator.phase - 1], request, *more.get(coordinator.phase, ()))
            costs.of_coordinator(coordinator.receive, number, answer)
        costs.of_coordinator(coordinator.close)
    total = Vector.zeros(setting.bits, setting.length, setting.quantities)
    for number in coordinator.survivors:
        total.add(summands[number])
    total.reduce(setting.bits)
    result = coordinator.result()
    if not (np.array_equal(result.weights, total.weights) and np.array_equal(result.quantities, total.quantities)):
        raise ValueError("the sum has other bits")
    return costs


def seconds_of_masks(setting: Setting) -> float:
    """The keystreams alone of one site, and their addition."""
    vector = Vector.zeros(setting.bits, setting.length, setting.quantities)
    begin = time.process_time()
    add_masks(vector, [Mask(bytes(KEY_BYTES))] * len(setting.roster.identities))
    return time.process_time() - begin


def measured(length: int, bits: int, sites: int, lost: int) -> dict[str, Any]:
    """One line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        setting, federated = federation(Path(folder), sites, bits, length)
        costs = one_round(setting, federated, drawn(setting), range(2, 2 + lost), Path(folder) / "coordinator")
        for site in federated.values():
            site.close()
    update = length * word(bits).itemsize
    return {
        "weights": length,
        "bits": bits,
        "sites": sites,
        "lost": lost,
        "site_seconds": round(statistics.median(costs.seconds.values()), 4),
        "site_seconds_of_masks": round(seconds_of_masks(setting), 4),
        "coordinator_seconds": round(costs.coordinator, 3),
        "update_bytes": update,
        "bytes_up_besides": max(costs.sent.values()) - update,
        "bytes_down": max(costs.received.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--bits", nargs="+", type=int, default=[32], help="default: 32")
    parser.add_argument("--store", action="store_true", help="write them to benchmarks/results.json")
    arguments = parser.parse_args()
    print(HEADER)
    lines = []
    for name in arguments.networks:
        for bits in arguments.bits:
            for sites, lost in SITES:
                line = measured(NETWORKS[name], bits, sites, lost)
                lines.append(line)
                print(
                    f"{line['weights']:10,} {bits:4} {sites:5} {lost:4} | {line['site_seconds']:7.4f} "
                    f"{line['site_seconds_of_masks']:8.4f} | {line['coordinator_seconds']:13.3f} | "
                    f"{line['update_bytes']:10,} {line['bytes_up_besides']:10,} {line['bytes_down']:8,}",
                    flush=True,
                )
    if arguments.store:
        store(secure_aggregation=lines)


if __name__ == "__main__":
    main()
