"""What is trained is a process of TFF: its own runtime gives the engine's weights."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow_federated as tff

from fedpipe.contracts.aggregator import AGGREGATORS
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.learning.clients import ClientReader
from fedpipe.learning.process import build_process, learning_process
from fedpipe.learning.task import Task
from fedpipe.runtime.engine import group_sizes
from fedpipe.runtime.worker import Worker
from tests import ROOT
from tests.fedpipe.training import first_weights, model_of, run, runs, same_bits, train_settings

Make = Callable[[list[int]], Path]
SIZES = [5, 0, 12, 7, 3, 9, 4, 8, 6, 2, 1, 10]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, marks=pytest.mark.slow),
        {"algorithm": "fed_nova", "aggregator": "median", "shuffle": True, "server_optimizer": {"momentum": 0.5}},
    ],
)
def test_tffs_own_context_gives_the_same_weights(
    worker: Worker, make_shards: Make, tmp_path: Path, changes: dict
) -> None:
    """TFF merges the groups in another order, so that sums differ by rounding."""
    shards, output = make_shards(SIZES), tmp_path / "weights.npz"
    groups = [part.tolist() for part in np.split(np.arange(12), np.cumsum(group_sizes(12))[:-1])]
    changes = {"client_optimizer": {"learning_rate": 0.1}} | changes
    command = [sys.executable, "-m", "tests.fedpipe.learning.tff_context", shards, output]
    process = subprocess.Popen([*command, json.dumps([groups, changes])], cwd=ROOT, start_new_session=True)
    try:
        assert process.wait(200) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # TFF's own context leaves its worker running
    ended = run(worker, train_settings(**changes), shards, [range(12)] * 2)
    with np.load(output) as theirs:
        for index, weight in enumerate(ended.weights):
            np.testing.assert_allclose(theirs[f"arr_{index}"], weight, rtol=0, atol=1e-6)
        np.testing.assert_allclose(theirs["moved"], ended.weights[-1] + 1, atol=1e-6)
        assert int(theirs["seen"]) == int(ended.rounds[-1]["seen"]) == sum(SIZES)
        np.testing.assert_allclose(theirs["loss"], ended.rounds[-1]["loss"], rtol=1e-6)


def test_it_is_a_learning_process(make_shards: Make) -> None:
    settings = train_settings()
    modules = ALGORITHMS.of("fed_avg"), AGGREGATORS.of("mean")
    task = Task(model_of(settings), settings, 1)
    process = build_process(task, *modules, first_weights(settings), ClientReader(make_shards([5])))
    learning = learning_process(process)
    assert isinstance(learning, tff.learning.templates.LearningProcess)
    assert str(learning.next.type_signature.parameter[1]) == "{int32[?,4]}@CLIENTS"


def test_groups_change_rounding_only(worker: Worker, make_shards: Make) -> None:
    shards, settings = make_shards(SIZES), train_settings(client_optimizer={"learning_rate": 0.1})
    reverse = list(reversed(range(12)))  # other clients in each group
    first, other = runs(worker, settings, shards, [[range(12)] * 2, [reverse] * 2])
    assert not same_bits(first.weights, other.weights)
    for a, b in zip(first.weights, other.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
