"""Measures clients between two rounds: an engine of its own beside that of the training, on the same worker."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from fedpipe.contracts.cohort import COHORTS
from fedpipe.learning.clients import ClientReader
from fedpipe.learning.loss_process import loss_process, state_of
from fedpipe.learning.wiring import Wiring
from fedpipe.learning.work_request import WorkRequest
from fedpipe.runtime.chunks import Elsewhere
from fedpipe.runtime.cohort import Losses
from fedpipe.runtime.engine import Engine
from fedpipe.runtime.worker import Worker


@contextmanager
def client_losses(
    wiring: Wiring, worker: Worker, training: Engine, elsewhere: Elsewhere | None
) -> Iterator[Losses | None]:
    """Yields what measures clients under the weights that ``training`` has at that time; None if no cohort needs it.

    Clients are measured on ``worker``, or ``elsewhere`` if they are not here.
    """
    task = wiring.task
    if not COHORTS.of(task.settings.cohort).needs_losses:
        yield None
        return
    process = loss_process(task, ClientReader(wiring.shards, first=wiring.first_client))
    place, site_of = elsewhere and elsewhere.losses(), wiring.manifest.site_of
    with Engine(process, worker, task.clients, place, site_of=site_of) as engine:

        def losses(clients: np.ndarray, round_number: int) -> np.ndarray:
            engine.restore(state_of(training.weights(), np.asarray(round_number, np.int32)))
            measured = engine.run_round(WorkRequest.of(clients).pack())["losses"]
            return np.asarray(measured.total)[clients]

        yield losses
