"""The clients' personal models, made after the last round from the server's state and what clients kept.

An algorithm whose file has ``personal(task, server, client)`` gives each client a model of its own. One whose file also
has ``cluster(task, server, client)`` has a param ``clusters``, and its server state are the models: a tensor
[clusters, ...] for each of the weights; ``cluster`` says which of them is the client's.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fedpipe.config.train import Train
from fedpipe.contracts.algorithm import ALGORITHMS, Algorithm
from fedpipe.lazy import tf
from fedpipe.learning.client_work import first_kept
from fedpipe.learning.clients import ClientReader
from fedpipe.learning.interface import Client, Nothing, Server
from fedpipe.learning.process import Process
from fedpipe.learning.structure import Structure
from fedpipe.learning.task import Task
from fedpipe.learning.work_request import WorkRequest
from fedpipe.networks.network import Weights
from fedpipe.networks.personal_weights import save_personal
from fedpipe.runtime.engine import Engine
from fedpipe.runtime.kept_state import KeptState


def model_count(settings: Train, clients: int) -> int:
    """How many personal models a training ends with."""
    algorithm = ALGORITHMS.of(settings.algorithm)
    if algorithm.cluster is not None:
        return int(settings.params_of("algorithm").clusters)
    return 0 if algorithm.personal is None else clients


def personal_models(
    task: Task, algorithm: Algorithm, process: Process, engine: Engine, reader: ClientReader, kept: KeptState | None
) -> "ClientModels | None":
    """The personal models after the engine's last round; None if the algorithm has none."""
    if algorithm.personal is None:
        return None
    last = np.full(task.clients, -1, np.int32) if kept is None else kept.last.copy()
    return ClientModels(task, algorithm, algorithm.personal, process.server, engine.state(), reader, last)


@dataclass(frozen=True, eq=False)
class ClientModels:
    """Personal models that are computed when they are written, one at a time, while what clients kept is there."""

    task: Task
    algorithm: Algorithm
    personal: Callable[[Task, Server, Client], Weights]
    structure: Structure
    state: list[np.ndarray]  # of the server, flat
    reader: ClientReader
    last: np.ndarray  # int32 [clients]: the round of each client's last file, or -1

    @cached_property
    def clusters(self) -> np.ndarray | None:
        """The cluster of each client, int32 [clients]; None if clients share no models."""
        if self.algorithm.cluster is None:
            return None
        return np.array([int(chosen) for chosen in self._of_clients(self.algorithm.cluster)], np.int32)

    def write(self, path: Path) -> None:
        """Writes all of them to ``path`` (networks/personal_weights.py)."""
        network, clients = self.task.network, self.task.clients
        count, owners = model_count(self.task.settings, clients), self.clusters
        if owners is not None:
            parts = self.structure.pack(self.state).state
            shared = ([part[number] for part in parts] for number in range(count))
            save_personal(path, network, owners, shared, count, clusters=True)
        else:
            each: Iterator[Weights] = ([w.numpy() for w in weights] for weights in self._of_clients(self.personal))
            save_personal(path, network, np.arange(clients, dtype=np.int32), each, count, clusters=False)

    def _of_clients(self, function: Callable[[Task, Server, Client], Any]) -> Iterator[Any]:
        """What a function of the algorithm gives for each client in turn."""

        @tf.function(autograph=False, input_signature=[WorkRequest.spec(), *self.structure.signature])
        def of_client(packed: Any, *leaves: Any) -> Any:
            server: Server = self.structure.pack(leaves)
            first = first_kept(self.task, self.algorithm)
            client, _ = self.reader.read(WorkRequest.unpack(packed), server.round, first)
            kept = first.algorithm if client.kept is Nothing else client.kept.algorithm
            return function(self.task, server, client._replace(kept=kept))

        leaves = [tf.constant(leaf) for leaf in self.state]
        for packed in WorkRequest.of(np.arange(self.task.clients), self.last).pack():
            yield of_client(tf.constant(packed), *leaves)
