"""Measurements of algorithms and aggregators: each says how it adds up, and one that does not is refused."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from fedpipe.aggregators import mean
from fedpipe.algorithms import fed_avg
from fedpipe.contracts.aggregator import AGGREGATORS
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.errors import PipelineError
from fedpipe.learning.interface import Client, Contribution, Server, Total
from fedpipe.learning.measurements import Counted, MeanPerClient, Measurements, Summed
from fedpipe.learning.message_bytes import ClientBytes
from fedpipe.learning.task import Task
from fedpipe.runtime.records import RoundRecord
from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms.reference import TRAINING
from tests.fedpipe.training import cohort_of, run, same_bits, train_settings

Make = Callable[[list[int]], Path]
SETTINGS = train_settings(**TRAINING)
CHOSEN = {"algorithm": ALGORITHMS.of("fed_avg"), "aggregator": AGGREGATORS.of("mean")}


def changed(kind: str, **functions: Any) -> dict[str, Any]:
    """An algorithm or aggregator with other functions, as arguments of `run`."""
    return {kind: replace(CHOSEN[kind], **functions)}


def measuring(*removed: str, **further: Any) -> dict[str, Any]:
    """FedAvg whose clients measure other things, too."""

    def client_update(task: Task, server: Server, client: Client) -> Contribution:
        sent = fed_avg.client_update(task, server, client)
        measured = OrderedDict((name, each) for name, each in sent.measurements.items() if name not in removed)
        return sent._replace(measurements=measured | further)

    return changed("algorithm", client_update=client_update)


def at_the_server(kind: str, **measured: Any) -> dict[str, Any]:
    """FedAvg, or the mean, that measures something at the server."""
    return changed(kind, server_measurements=lambda task, before, after, total: measured)


def test_a_mean_per_client_counts_each_client_once(worker: Worker, make_shards: Make) -> None:
    """Across groups, and without the client whose update is not finite."""
    sizes = [5, 40, 3, 17, 8, 1, 9]

    def client_update(task: Task, server: Server, client: Client) -> Contribution:
        sent = fed_avg.client_update(task, server, client)
        size = tf.cast(tf.size(client.labels), tf.float32)
        broken = [tf.where(client.id == 1, float("nan"), part) for part in sent.update]
        measured = OrderedDict(sent.measurements, samples=MeanPerClient(size))
        return sent._replace(update=broken, measurements=measured)

    ended = run(worker, SETTINGS, make_shards(sizes), [range(7)], **changed("algorithm", client_update=client_update))
    record = RoundRecord.of(1, cohort_of(range(7)), ended.measured[0], ClientBytes(1, 1), {})
    assert record.others == {"samples": pytest.approx(np.mean(np.delete(sizes, 1)))}
    assert (record.clients, record.non_finite) == (6, 1)


def test_aggregator_and_algorithm_measure_at_the_server(worker: Worker, make_shards: Make) -> None:
    def of_aggregator(task: Task, before: Any, after: Any, total: Any) -> Measurements:
        return {"states": Counted(100 * before + after), "summed": Summed(tf.reduce_sum(tf.abs(total[1])))}

    def of_algorithm(task: Task, before: Server, after: Server, total: Total) -> Measurements:
        moved = [tf.reduce_sum(tf.square(w - was)) for w, was in zip(after.weights, before.weights, strict=True)]
        length = tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(part)) for part in total.update]))
        return {"moved": Summed(tf.sqrt(tf.add_n(moved))), "length": Summed(length), "rounds": Counted(after.round)}

    def finish(task: Task, state: Any, total: Any, weight: Any, round_number: Any) -> Any:
        return mean.finish(task, state, total, weight, round_number)[0], state + 1

    start = {"server_init": lambda task: tf.constant(0), "finish": finish}
    aggregator = changed("aggregator", server_measurements=of_aggregator, **start)
    shards, cohorts = make_shards([9, 4, 6]), [[0, 1, 2], [0, 2], []]
    ended = run(
        worker, SETTINGS, shards, cohorts, **changed("algorithm", server_measurements=of_algorithm), **aggregator
    )
    plain = run(worker, SETTINGS, shards, cohorts)
    assert same_bits(ended.weights, plain.weights)
    assert [int(measured["states"]) for measured in ended.rounds] == [1, 102, 203]
    assert [int(measured["rounds"]) for measured in ended.rounds] == [2, 3, 4]
    assert ended.rounds[0]["summed"] > 0 and ended.rounds[2]["summed"] == 0
    np.testing.assert_allclose(*[[each[name] for each in ended.rounds] for name in ("moved", "length")], rtol=1e-5)
    assert ended.rounds[0]["moved"] > 0


@pytest.mark.parametrize(
    ("parts", "wrong"),
    [
        (measuring(mine=tf.constant(1.0)), r"algorithms/fed_avg.py measures 'mine' and does not say how it adds up"),
        (measuring(clients=Counted(tf.constant(1))), r"algorithms/fed_avg.py measures clients, as is done already"),
        (measuring("seen", "loss"), r"algorithms/fed_avg.py does not measure loss, seen: pass on"),
        (
            at_the_server("algorithm", loss=Summed(tf.constant(1.0))),
            r"algorithms/fed_avg.py measures loss, as is done already",
        ),
        (
            at_the_server("aggregator", norm=tf.constant(1.0)),
            r"aggregators/mean.py measures 'norm' and does not say how it adds up",
        ),
    ],
)
def test_what_a_round_could_not_record_is_refused_before_it(
    worker: Worker, make_shards: Make, parts: dict[str, Any], wrong: str
) -> None:
    with pytest.raises(PipelineError, match=wrong):
        run(worker, SETTINGS, make_shards([5]), [[0]], **parts)
