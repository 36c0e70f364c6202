"""The input of algorithms and aggregators: the model, the params, and the steps that all of them share."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fedpipe.config.train import Train
from fedpipe.lazy import tf
from fedpipe.learning import local_training
from fedpipe.learning.interface import Client, Contribution, Server, Total
from fedpipe.learning.local_training import GradientHook, Local
from fedpipe.learning.optimizers import RoundOptimizer
from fedpipe.learning.randomness import NoiseKey, noise_seed, seed_in_graph
from fedpipe.networks.network import Network
from fedpipe.seeds import Purpose


@dataclass(frozen=True)
class Task:
    """A training that is described but not started."""

    network: Network
    settings: Train
    clients: int  # how many there are altogether
    noise_key: NoiseKey | None = None  # for the noise of DP; None for that of the seed
    all_weights: float | None = None  # what sites say that `total_weight` is; None where clients' sizes say it
    samples_before: tuple[int, ...] = ()  # `all_samples.samples_before`, for an algorithm with POOLS_SAMPLES

    @property
    def algorithm(self) -> Any:
        """The params of the algorithm: the section of its name."""
        return self.settings.params_of("algorithm")

    @property
    def attack(self) -> Any:
        """The params of the attack: the section of its name."""
        return self.settings.params_of("attack")

    @property
    def compressor(self) -> Any:
        """The params of the compressor: the section of its name."""
        return self.settings.params_of("compressor")

    @property
    def aggregator(self) -> Any:
        """The params of the aggregator: the section of its name."""
        return self.settings.params_of("aggregator")

    @cached_property
    def client_optimizer(self) -> RoundOptimizer:
        """The clients' optimizer."""
        return RoundOptimizer(self.settings.client_optimizer, self.settings.rounds)

    @cached_property
    def server_optimizer(self) -> RoundOptimizer:
        """The server's optimizer."""
        return RoundOptimizer(self.settings.server_optimizer, self.settings.rounds)

    def zeros(self) -> list[Any]:
        """Zeros in the shapes of the model's weights."""
        return [tf.zeros(shape) for shape in self.network.shapes.values()]

    def train(self, weights: list[Any], client: Client, hook: GradientHook | None = None, steps: Any = None) -> Local:
        """Local training from ``weights`` (`local_training.train`)."""
        return local_training.train(self.network, self.settings, self.client_optimizer, weights, client, hook, steps)

    def train_on(self, weights: list[Any], client: Client, places: Any) -> Local:
        """Local training on some of the client's samples, once in the order of ``places`` (`local_training.train`)."""
        return local_training.train(self.network, self.settings, self.client_optimizer, weights, client, places=places)

    def full_gradient(self, weights: list[Any], client: Client) -> tuple[list[Any], Any]:
        """Mean gradient and mean loss of the client's samples (`local_training.full_gradient`)."""
        return local_training.full_gradient(self.network, self.settings, weights, client)

    def measured_gradient(self, weights: list[Any], client: Client) -> tuple[list[Any], Any]:
        """Mean gradient of the client's samples and sums of measurements (`local_training.measured_gradient`)."""
        return local_training.measured_gradient(self.network, self.settings, weights, client)

    def loss(self, weights: list[Any], client: Client) -> Any:
        """Mean loss of the client's samples (`local_training.mean_loss`)."""
        return local_training.mean_loss(self.network, self.settings, weights, client)

    def takes_part(self, client: Client) -> Any:
        """Whether the client takes a local step, bool. The server gets nothing from one that takes none."""
        return local_training.step_count(self.settings, client) > 0

    def weight(self, client: Client) -> Any:
        """The client's weight in a mean as ``train.client_weighting`` says, float32; 0 without samples."""
        examples = tf.cast(local_training.sample_count(client), tf.float32)
        if self.settings.client_weighting == "examples":
            return examples
        present = tf.cast(examples > 0, tf.float32)
        if self.settings.client_weighting == "uniform":
            return present
        return present * tf.gather(tf.constant(self.settings.client_weights.values, tf.float32), client.id)

    def total_weight(self, sizes: np.ndarray) -> float:
        """The sum of the weights of all clients that can take a local step.

        Args:
          sizes: int64 [clients], the number of samples of each.
        """
        if self.all_weights is not None:
            return self.all_weights
        weights = {
            "examples": sizes,
            "uniform": np.ones_like(sizes),
            "per_client": np.asarray(self.settings.client_weights.values, np.float32).astype(np.float64),
        }[self.settings.client_weighting]
        return float(weights[local_training.batch_count(self.settings, sizes) > 0].sum())

    def client_seed(self, client: Client) -> Any:
        """A seed int32 [2] for an algorithm's or an aggregator's draws at a client in this round."""
        return seed_in_graph(self.settings.seed, Purpose.CLIENT, client.round, client.id)

    def attack_seed(self, client: Client) -> Any:
        """A seed int32 [2] for an attacker's draws in this round."""
        return seed_in_graph(self.settings.seed, Purpose.ATTACK, client.round, client.id)

    def compression_seed(self, client: Client) -> Any:
        """A seed int32 [2] for a compressor's draws at a client in this round."""
        return seed_in_graph(self.settings.seed, Purpose.COMPRESSION, client.round, client.id)

    def server_seed(self, round_number: Any) -> Any:
        """A seed int32 [2] for an algorithm's or an aggregator's draws at the server in this round."""
        return seed_in_graph(self.settings.seed, Purpose.SERVER, round_number)

    def noise_seed(self, round_number: Any, index: Any = 0) -> Any:
        """A seed int64 [2] for the noise of differential privacy: another one for every round and index."""
        return noise_seed(self.settings.seed, self.noise_key, round_number, index)

    def server_step(self, server: Server, update: list[Any]) -> Server:
        """A step of the server optimizer, with ``update`` in the place of the gradient.

        Statistics of batch normalization are averaged, whatever the optimizer.

        Source: Reddi et al. 2021, "Adaptive Federated Optimization", algorithm 1; SGD at rate 1 is plain averaging.
        """
        network = self.network
        state = self.server_optimizer.at_round(server.optimizer, server.round)
        state, trained = self.server_optimizer.step(state, network.trained(server.weights), network.trained(update))
        weights = network.whole(trained, network.averaged_statistics(server.weights, update))
        return server._replace(weights=weights, optimizer=state)


ClientUpdate = Callable[[Task, Server, Client], Contribution]
ServerUpdate = Callable[[Task, Server, Total], Server]
