"""``make federation-demo``: a coordinator and some sites on this machine, each site with samples of its own.

The training of params.yaml runs over the sites, a few rounds of it; then as a simulation over the pooled samples; and
the weights of both are compared. Sites are processes that are connected as they would be over a network.
"""

import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedpipe import params
from fedpipe.config.train import StopAt, Train
from fedpipe.contracts.aggregator import has_noise_at_clients, has_secret_noise
from fedpipe.datasets.raw import RawDataset
from fedpipe.datasets.shards import Manifest, write_at_sites, write_shards
from fedpipe.errors import PipelineError
from fedpipe.evaluation.identity import sha256
from fedpipe.federation.pinned_roster import make_identity
from fedpipe.links.settings import FlareKits, LinkSettings
from fedpipe.networks.weights import save_weights
from fedpipe.runtime.training_key import name_of, training_key
from fedpipe.runtime.worker import Worker
from fedpipe.secure_aggregation.roster import FEWEST_SITES
from fedpipe.system.certificates import make_certificates
from fedpipe.system.children import end_child, start_child
from layout import FEDERATION_DEMO, PARAMS, RAW

if TYPE_CHECKING:
    from fedpipe.federation.answers import Link
    from fedpipe.federation.coordinator import Federation
    from fedpipe.runtime.rounds import Hook
    from fedpipe.runtime.trained import Trained

_SAMPLES = 20  # of each client
_LARGEST_SITE = 6  # clients
_END_SECONDS = 10.0


def run_demo(sites: int, rounds: int, link: str = "grpc") -> None:
    """Runs it and prints whether the bits are the same.

    Args:
      sites: How many.
      rounds: How many.
      link: As in federation.yaml: ``grpc``, or ``flare`` for a federation of NVIDIA FLARE that runs meanwhile.

    Raises:
      PipelineError: They are not, the data set is missing, or a site does not take part.
    """
    folder = FEDERATION_DEMO
    shutil.rmtree(folder, ignore_errors=True)
    names = [f"site-{number}" for number in range(1, sites + 1)]
    clients = [2 + number % (_LARGEST_SITE - 1) for number in range(1, sites + 1)]  # uneven
    settings = params.load(Train, PARAMS).model_copy(
        update={"rounds": rounds, "evaluate_every": 0, "keep_best": False, "stop_at": StopAt(), "init": "fresh"}
    )
    if has_secret_noise(settings) or has_noise_at_clients(settings):
        raise PipelineError(
            f"params.yaml: 'train.aggregator' {settings.aggregator} has secret noise at sites, and no simulation "
            "has its bits: choose another one for the demo"
        )
    if settings.clients_per_round != "all":
        settings = settings.model_copy(update={"clients_per_round": min(settings.clients_per_round, sum(clients))})
    deal(folder, names, clients)
    exchange_keys(folder, names)
    with running_sites(folder, names, link) as way, Worker(folder / "coordinator/worker.log") as worker:
        digest = weights_digest(train_over_sites(folder, way, names, settings, worker), folder / "coordinator")
        pooled, simulation = folder / "pooled", folder / "simulation"
        here = weights_digest(train_here(settings, pooled, simulation, worker), simulation)
    print(f"federation: {sites} sites, {sum(clients)} clients: weights {digest}", flush=True)
    print(f"simulation: the pooled samples, 'partition.sites' {clients}: weights {here}")
    if digest != here:
        raise PipelineError(f"the weights differ: {folder} has both models and the sites' logs")
    print("same bits as the simulation")


def deal(folder: Path, names: Sequence[str], clients: Sequence[int], samples: int = _SAMPLES) -> None:
    """Writes each site's shards and policy, and the pooled shards; each client has so many ``samples``."""
    dataset = RawDataset.read(RAW)
    images, labels = dataset.read_train(RAW)
    members = list(np.arange(sum(clients) * samples).reshape(-1, samples))

    def write(place: Path, own: list[np.ndarray], sites: Sequence[int] | None = None) -> None:
        place.mkdir(parents=True)
        write_shards(place, dataset.name, images, labels, own, dataset.classes, sites=sites)

    write(folder / "pooled", members, clients)
    for name, count, end in zip(names, clients, np.cumsum(clients), strict=True):
        write(folder / name / "clients", members[end - count : end])
        policy = "algorithms: any\naggregators: any\nmodels: any\nattacks: any\nclient_losses: true\n"
        policy += "least_clients: 1\nleast_samples: 1\n"
        (folder / name / "policy.yaml").write_text(policy, encoding="utf-8")


def exchange_keys(folder: Path, names: Sequence[str]) -> None:
    """Makes an identity for each site, and the roster for secure sums, of which each site has a copy."""
    if len(names) < FEWEST_SITES:
        return
    keys = {name: make_identity(folder / "certificates", name) for name in names}
    lines = "".join(f"  {name}: {key}\n" for name, key in keys.items())
    for place in (*names, "coordinator"):
        (folder / place).mkdir(exist_ok=True)
        (folder / place / "roster.yaml").write_text(f"sites:\n{lines}colluding: 0\n", encoding="utf-8")


@contextmanager
def running_sites(folder: Path, names: Sequence[str], link: str) -> Iterator[LinkSettings]:
    """The sites' processes, and how the coordinator reaches them."""
    with ExitStack() as stack:
        certificates = folder / "certificates"  # and the sites' identities
        options = ["--certificates", str(certificates)]
        if link == "flare":
            from operations.federation.local_flare import LocalFlare

            flare = stack.enter_context(LocalFlare(folder / "flare", names))
            kits = FlareKits(server=flare.server, admin=flare.admin)
            way = LinkSettings(link="flare", flare=kits, certificates=folder)
            commands = {name: [*options, "flare-site", str(flare.sites[name])] for name in names}
        else:
            make_certificates(certificates, ["coordinator", *names])
            way = LinkSettings(address=_free_address(), certificates=certificates)
            commands = {name: [*options, "site", way.address, name] for name in names}
        for name in names:
            place = folder / name
            command = [sys.executable, "-m", "operations.federation", *commands[name]]
            command += ["--shards", str(place / "clients"), "--policy", str(place / "policy.yaml")]
            command += ["--personal", str(place / "personal"), "--logs", str(place / "logs")]
            command += ["--roster", str(place / "roster.yaml")]
            stack.callback(end_child, start_child(command, place / "site.log"), _END_SECONDS)
        yield way


def _free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def train_over_sites(
    folder: Path,
    way: LinkSettings,
    names: Sequence[str],
    settings: Train,
    worker: Worker,
    hooks: "Sequence[Hook]" = (),
    around: "Callable[[Link], Link]" = lambda link: link,
) -> "Trained":
    """A training over sites.

    Args:
      folder: Of the coordinator and all sites.
      way: How the coordinator reaches them.
      names: Of the sites.
      settings: Section train.
      worker: Of the coordinator.
      hooks: Of the rounds.
      around: Wraps the link.
    """
    from fedpipe.federation.answers import described
    from fedpipe.federation.coordinator import Federation
    from fedpipe.federation.secure_sums import SecureSums
    from fedpipe.links.opening import open_link

    place = folder / "coordinator"
    clients = place / "clients"
    clients.mkdir(parents=True)
    with open_link(way, names, lambda line: print(f"demo: {line}", flush=True)) as opened:
        link = around(opened)
        (common, *_), shards = described(link, names)
        height, width, channels = common.image_shape
        manifest = write_at_sites(clients, common.dataset, (height, width, channels), common.classes, shards)
        training = name_of(training_key(settings, manifest, [], None))
        secure = SecureSums.of(settings, place / "roster.yaml", place / "secure-sums")
        federation = Federation(link, manifest, settings, training, secure)
        federation.join()
        return train_here(settings, clients, place, worker, federation, hooks)


def train_here(
    settings: Train,
    shards: Path,
    folder: Path,
    worker: Worker,
    federation: "Federation | None" = None,
    hooks: "Sequence[Hook]" = (),
) -> "Trained":
    """A training over the sites of ``federation``, or over pooled samples."""
    from fedpipe.runtime.checkpoints import Checkpoints
    from fedpipe.runtime.training import prepare

    key = training_key(settings, Manifest.read(shards), [], None)
    states = federation.states if federation else None
    with Checkpoints(folder / "checkpoints", key, settings, states) as checkpoints:
        training = prepare(
            settings,
            shards,
            folder,
            checkpoints=checkpoints,
            all_weights=federation.all_weights if federation else None,
            fewest_sites=federation.fewest_sites if federation else None,
        )
        return training.run(worker, elsewhere=federation, hooks=hooks)


def weights_digest(trained: "Trained", folder: Path) -> str:
    """Writes the weights; returns their SHA-256."""
    path = folder / "weights.safetensors"
    save_weights(path, trained.network, trained.weights)
    return sha256(path)
