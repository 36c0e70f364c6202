"""Measures clients between two rounds: an engine of its own beside that of the training, on the same worker."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fedpipe.learning.clients import ClientReader
from fedpipe.learning.loss_process import loss_process
from fedpipe.learning.task import Task
from fedpipe.learning.work_request import WorkRequest
from fedpipe.runtime.cohort import Losses, needs_losses
from fedpipe.runtime.engine import Engine
from fedpipe.runtime.worker import Worker


@contextmanager
def client_losses(task: Task, shards: Path, worker: Worker, training: Engine) -> Iterator[Losses | None]:
    """Yields what measures clients under the weights that ``training`` has at that time; None if no cohort needs it."""
    if not needs_losses(task.settings):
        yield None
        return
    reader = ClientReader(shards)
    with Engine(loss_process(task, reader), worker, task.clients) as engine:

        def losses(clients: np.ndarray, round_number: int) -> np.ndarray:
            engine.restore([*training.weights(), np.asarray(round_number, np.int32)])
            measured = engine.run_round(WorkRequest.of(clients).pack())["losses"]
            return np.asarray(measured.total)[clients]

        yield losses
