"""A training's parts, connected: model, algorithm, aggregator, access to the clients' data, and their process.

Whoever runs a training or a part of one (driver, cluster worker, benchmark, test) connects them here.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fedpipe.compatibility import batch_norm
from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import AGGREGATORS, Aggregator, has_noise_at_clients
from fedpipe.contracts.algorithm import ALGORITHMS, Algorithm
from fedpipe.datasets.shards import Manifest, Shards, open_shards
from fedpipe.errors import PipelineError
from fedpipe.learning.all_samples import samples_before
from fedpipe.learning.client_work import keeps_state
from fedpipe.learning.clients import ClientReader
from fedpipe.learning.fixed_point import FixedPoint
from fedpipe.learning.local_training import batch_count
from fedpipe.learning.process import Process, build_process
from fedpipe.learning.randomness import NoiseKey
from fedpipe.learning.task import Task
from fedpipe.networks.network import Network, Weights
from fedpipe.networks.network import network as model_of
from fedpipe.networks.spec import ModelSpec
from fedpipe.seeds import Purpose, generator


class Share(NamedTuple):
    """The clients that a folder of shards holds, among all clients of a training."""

    first: int  # the id of the first of them
    clients: int  # of the training


@dataclass(frozen=True, eq=False)
class Wiring:
    """The parts of a training over a folder of shards."""

    task: Task
    algorithm: Algorithm
    aggregator: Aggregator
    shards: Path
    first: Weights  # before the first round
    folder: Path | None  # for what clients keep; None where an algorithm that keeps something cannot run
    manifest: Manifest  # of the shards
    first_client: int = 0  # the id of the client that has the first shard

    @staticmethod
    def of(
        settings: Train,
        shards: Path,
        folder: Path | None = None,
        *,
        network: Network | None = None,
        first: Weights | None = None,
        noise_key: NoiseKey | None = None,
        share: Share | None = None,
        all_weights: float | None = None,
    ) -> "Wiring":
        """Connects the choices that ``settings`` names.

        Args:
          settings: Section train of params.yaml.
          shards, folder: As the attributes.
          network: The model; by default that of the settings, for the shards' images and classes.
          first: The weights before the first round; by default drawn from the seed.
          noise_key: As `Task.noise_key`.
          all_weights: As `Task.all_weights`.
          share: Which clients ``shards`` holds; by default all of the training.

        Raises:
          PipelineError: There are no shards, the model does not fit their images, or the aggregator the clients' sizes.
        """
        manifest = Manifest.read(shards)
        if manifest.samples_at is None:
            _require_sizes(settings, shards)
        if settings.class_weights and (
            manifest.kind.label_kind != "classes" or len(settings.class_weights) != manifest.classes
        ):
            raise PipelineError(
                f"params.yaml: 'train.class_weights' has {len(settings.class_weights)} weights, and the data set has "
                f"{manifest.classes} classes: give one weight for each"
            )
        _require_weights(settings, manifest, shards)
        network = network or model_of(ModelSpec.of(settings, *manifest.kind))
        _require_batch_norm_fits(settings, network)
        if first is None:
            first = network.first_weights(generator(settings.seed, Purpose.INITIAL_WEIGHTS))
        first_client, clients = share or Share(0, manifest.clients)
        algorithm, aggregator = ALGORITHMS.of(settings.algorithm), AGGREGATORS.of(settings.aggregator)
        before = samples_before(settings, np.diff(open_shards(shards).offsets)) if algorithm.POOLS_SAMPLES else ()
        task = Task(network, settings, clients, noise_key, all_weights, before)
        folder = folder and folder.resolve()
        return Wiring(task, algorithm, aggregator, shards, first, folder, manifest, first_client)

    @property
    def clients(self) -> range:
        """The ids of the clients in the folder of shards."""
        return range(self.first_client, self.first_client + self.manifest.clients)

    @property
    def kept(self) -> Path | None:
        """The folder for client state; None if clients keep none."""
        return self.folder if keeps_state(self.task, self.algorithm) else None

    @cached_property
    def reader(self) -> ClientReader:
        """Reads clients' shards and state on the worker."""
        return ClientReader(self.shards, self.kept, self.first_client, self.algorithm.POOLS_SAMPLES)

    @cached_property
    def fixed_point(self) -> FixedPoint | None:
        """How the sum over a site's clients becomes integers; None if sites send it as it is."""
        if not self.aggregator.SUMS_INTEGERS:
            return None
        settings = self.task.settings
        noise = self.aggregator.noise_variance(settings, self.task.clients)
        return FixedPoint.of(self.process.passes, settings.params_of("aggregator").bits, noise)

    @property
    def simulated_rounding(self) -> FixedPoint | None:
        """``fixed_point`` where sites are simulated; None where there are none, or where they round their own sums."""
        simulates = self.manifest.sites is not None and self.manifest.samples_at is None
        return self.fixed_point if simulates else None

    @property
    def noise_is_of_sites(self) -> bool:
        """Whether clients add noise of which only their sites have the keys."""
        return self.manifest.samples_at == "sites" and has_noise_at_clients(self.task.settings)

    @cached_property
    def process(self) -> Process:
        """The training as TFF computations; building it traces every graph."""
        return build_process(self.task, self.algorithm, self.aggregator, self.first, self.reader)


def _require_weights(settings: Train, manifest: Manifest, shards: Path) -> None:
    """Raises PipelineError if ``client_weighting: per_client`` has no number for a client, or for none that trains."""
    values = settings.client_weights.values
    if settings.client_weighting != "per_client":
        return
    if len(values) != manifest.clients:
        raise PipelineError(
            f"'train.client_weights' has {len(values)} numbers, and there are {manifest.clients} clients: give one for "
            "each, clients of later batches among them"
        )
    has_batch = batch_count(settings, np.diff(Shards.open(shards).offsets)) > 0
    if not np.asarray(values)[has_batch].any():
        raise PipelineError(
            "'train.client_weights' are 0 for all clients that have samples to train on: give one of them a weight "
            "above 0"
        )


def _require_batch_norm_fits(settings: Train, network: Network) -> None:
    """Raises PipelineError if a choice cannot carry batch normalization, or if clients would keep none."""
    if network.batch_norm:
        try:
            batch_norm.require_fit(settings)
        except ValueError as error:
            raise PipelineError(f"params.yaml: {error}") from None
    elif ALGORITHMS.of(settings.algorithm).BATCH_NORM == "kept":
        raise PipelineError(
            f"params.yaml: 'train.algorithm' {settings.algorithm} keeps batch normalization at the clients, and "
            f"'train.model' {settings.model} trains none: choose fed_avg, or a model with BatchNormalization"
        )


def _require_sizes(settings: Train, shards: Path) -> None:
    """Raises PipelineError for numbers of samples that the aggregator cannot take."""
    try:
        AGGREGATORS.of(settings.aggregator).check_sizes(settings, np.diff(Shards.open(shards).offsets))
    except ValueError as error:
        raise PipelineError(f"params.yaml: {error}") from None
