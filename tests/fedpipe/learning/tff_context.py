"""``python -m tests.fedpipe.learning.tff_context SHARDS OUTPUT PARAMS``: a training in TFF's own local C++ context.

Two rounds over the groups of the engine; OUTPUT gets the weights of both as an .npz file. PARAMS are changes of section
train, as JSON.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

from fedpipe.contracts.aggregator import AGGREGATORS
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.learning.clients import ClientReader
from fedpipe.learning.process import build_process, learning_process
from fedpipe.learning.task import Task
from fedpipe.learning.work_request import WorkRequest
from tests.fedpipe.training import first_weights, model_of, train_settings


def main(shards: Path, output: Path, groups: list[list[int]], changes: dict) -> None:
    import tensorflow_federated as tff

    settings = train_settings(**changes)
    process = build_process(
        Task(model_of(settings), settings, sum(map(len, groups))),
        ALGORITHMS.of(settings.algorithm),
        AGGREGATORS.of(settings.aggregator),
        first_weights(settings),
        ClientReader(shards),
    )
    tff.backends.native.set_sync_local_cpp_execution_context()
    learning = learning_process(process)
    state = learning.initialize()
    for _ in range(2):
        state, metrics = learning.next(state, [WorkRequest.of(group).pack() for group in groups])
    measured = process.measurements.pack(metrics)
    weights = learning.get_model_weights(state)
    again = learning.get_model_weights(learning.set_model_weights(state, tuple(w + 1 for w in weights)))
    np.savez(output, *weights, moved=again[-1], seen=measured["seen"].total, loss=measured["loss"].total)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *json.loads(sys.argv[3]))
    sys.stdout.flush()
    os._exit(0)  # TFF's context would leave its worker behind
