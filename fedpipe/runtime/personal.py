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
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.lazy import tf
from fedpipe.learning.client_work import first_kept
from fedpipe.learning.interface import Client, Nothing, Server
from fedpipe.learning.task import Task
from fedpipe.learning.wiring import Wiring
from fedpipe.learning.work_request import WorkRequest
from fedpipe.networks.network import Weights
from fedpipe.networks.personal_weights import save_personal
from fedpipe.runtime.chunks import Elsewhere
from fedpipe.runtime.engine import Engine
from fedpipe.runtime.kept_state import KeptState


def model_count(settings: Train, clients: int) -> int:
    """How many personal models a training ends with."""
    algorithm = ALGORITHMS.of(settings.algorithm)
    if algorithm.cluster is not None:
        return int(settings.params_of("algorithm").clusters)
    return 0 if algorithm.personal is None else clients


def personal_models(
    wiring: Wiring, engine: Engine, kept: KeptState | None, elsewhere: Elsewhere | None = None
) -> "ClientModels | None":
    """The personal models after the engine's last round; None if the algorithm has none, or sites keep their own."""
    if wiring.algorithm.personal is None:
        return None
    last = nothing_kept(wiring) if kept is None else kept.last.copy()
    state = engine.state()
    if elsewhere is not None and elsewhere.make_personal(state, last):
        return None
    return ClientModels(wiring, wiring.algorithm.personal, state, last)


def nothing_kept(wiring: Wiring) -> np.ndarray:
    """The rounds of clients' states before the first one: int32 [clients]."""
    return np.full(wiring.task.clients, -1, np.int32)


@dataclass(frozen=True, eq=False)
class ClientModels:
    """Personal models that are computed when they are written, one at a time, while what clients kept is there."""

    wiring: Wiring
    personal: Callable[[Task, Server, Client], Weights]
    state: list[np.ndarray]  # of the server, flat
    last: np.ndarray  # int32 [clients of the folder]: the round of each client's last file, or -1

    @cached_property
    def clusters(self) -> np.ndarray | None:
        """The cluster of each client, int32 [clients]; None if clients share no models."""
        if self.wiring.algorithm.cluster is None:
            return None
        return np.array([int(chosen) for chosen in self._of_clients(self.wiring.algorithm.cluster)], np.int32)

    def write(self, path: Path) -> None:
        """Writes all of them to ``path`` (networks/personal_weights.py)."""
        task = self.wiring.task
        network, clients = task.network, len(self.wiring.clients)
        count, owners = model_count(task.settings, clients), self.clusters
        if owners is not None:
            parts = self.wiring.process.server.pack(self.state).state
            shared = ([part[number] for part in parts] for number in range(count))
            save_personal(path, network, owners, shared, count, clusters=True)
        else:
            save_personal(path, network, np.arange(clients, dtype=np.int32), self.weights(), count, clusters=False)

    def weights(self) -> Iterator[Weights]:
        """The weights of each client's model in turn."""
        return ([w.numpy() for w in weights] for weights in self._of_clients(self.personal))

    def _of_clients(self, function: Callable[[Task, Server, Client], Any]) -> Iterator[Any]:
        """The results of a function of the algorithm for each client in turn."""
        task, algorithm, reader = self.wiring.task, self.wiring.algorithm, self.wiring.reader
        server_structure = self.wiring.process.server

        @tf.function(autograph=False, input_signature=[WorkRequest.spec(), *server_structure.signature])
        def of_client(packed: Any, *leaves: Any) -> Any:
            server: Server = server_structure.pack(leaves)
            first = first_kept(task, algorithm)
            client, _ = reader.read(WorkRequest.unpack(packed), server.round, first)
            kept = first.algorithm if client.kept is Nothing else client.kept.algorithm
            return function(task, server, client._replace(kept=kept))

        # TensorFlow counts what it traces by the line of code, and would warn of many trainings as of one traced often.
        of_client = of_client.get_concrete_function()
        leaves = [tf.constant(leaf) for leaf in self.state]
        for packed in WorkRequest.of(self.wiring.clients, self.last).pack():
            yield of_client(tf.constant(packed), *leaves)
