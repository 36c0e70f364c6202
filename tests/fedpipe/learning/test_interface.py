"""What the interface of algorithms and aggregators serves, beside what the folders hold: each with a small example."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from fedpipe.algorithms import fed_avg
from fedpipe.contracts.aggregator import Aggregator
from fedpipe.contracts.algorithm import Algorithm
from fedpipe.learning.interface import Client, Contribution, Server, Total
from fedpipe.learning.measurements import MeanPerClient, MeanPerExample, Summed
from fedpipe.learning.message_bytes import ClientBytes
from fedpipe.learning.task import Task
from fedpipe.runtime.records import RoundRecord
from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms import reference
from tests.fedpipe.algorithms.reference import COHORTS, SIZES, TRAINING, Weights
from tests.fedpipe.training import (
    cohort_of,
    first_weights,
    measured_of_one_example,
    run,
    runs,
    same_bits,
    train_settings,
)

Make = Callable[[list[int]], Path]
SETTINGS = train_settings(**TRAINING)


def two_passes(task: Task) -> Any:
    """Full gradients first, then steps with gradient g - grad_k(w) + grad(w) (as in FedLin, Mitra et al. 2021)."""

    def gradients(task: Task, server: Server, client: Client) -> Contribution:
        full, loss = task.full_gradient(server.weights, client)
        return Contribution(full, task.weight(client), OrderedDict(loss=MeanPerExample(loss)))

    def remember(task: Task, server: Server, total: Total) -> Server:
        return server._replace(state=total.update)

    def steps(task: Task, server: Server, client: Client) -> Contribution:
        mine, _ = task.full_gradient(server.weights, client)

        def corrected(gradients: list[Any], weights: list[Any], gradient_at: Any) -> list[Any]:
            return [g - m + c for g, m, c in zip(gradients, mine, server.state, strict=True)]

        local = task.train(server.weights, client, corrected)
        return Contribution(local.update, task.weight(client), local.measurements)

    return (gradients, remember), (steps, fed_avg.server_update)


def test_two_passes_in_a_round(worker: Worker, make_shards: Make) -> None:
    shards = make_shards(SIZES)
    algorithm = Algorithm(passes=two_passes, server_init=lambda task: task.zeros())
    ended = run(worker, SETTINGS, shards, COHORTS, algorithm=algorithm)
    weights = first_weights(SETTINGS)
    for cohort in COHORTS:
        everyone = [reference.samples_of(shards, client) for client in cohort]
        masses = [len(samples.y) for samples in everyone]
        full = [reference.losses_and_gradient(weights, samples)[1] for samples in everyone]
        common = reference.mean(full, masses)
        updates = []
        for samples, mine in zip(everyone, full, strict=True):

            def corrected(g: Weights, now: Weights, mine: Weights = mine, common: Weights = common) -> Weights:
                return [a - b + c for a, b, c in zip(g, mine, common, strict=True)]

            updates.append(reference.sgd(weights, samples, SETTINGS, hook=corrected)[0])
        weights = reference.moved(weights, reference.mean(updates, masses))
    reference.assert_close(ended.weights, weights)
    assert ended.bytes == (2 * 2 * 7_850 * 4, 2 * 7_850 * 4)  # weights and the gradient go down twice


def test_the_same_pass_several_times_is_one_round(worker: Worker, make_shards: Make) -> None:
    """As in RFA: the round counts up after the last pass, however often a pass comes."""

    def note(task: Task, server: Server, total: Total) -> Server:
        return server._replace(state=server.state + 100 * server.round)

    step = (fed_avg.client_update, note)
    algorithm = Algorithm(passes=lambda task: (step,) * 3, server_init=lambda task: tf.constant(0))
    ended = run(worker, SETTINGS, make_shards([5, 5]), [[0, 1]] * 2, algorithm=algorithm)
    seen = [int(leaf) for leaf in ended.state if leaf.shape == () and leaf.dtype == np.int32]
    assert sorted(seen) == [3, 900]  # round 3 comes next; 3 x 100 + 3 x 200


def q_fed_avg(q: float, rate: float) -> Any:
    """q-FFL (Li et al. 2020): clients weigh as much as the q-th power of their loss."""

    def client_update(task: Task, server: Server, client: Client) -> Contribution:
        loss = task.loss(server.weights, client) + 1e-10
        local = task.train(server.weights, client)
        gradient = [u / rate for u in local.update]
        norm = tf.add_n([tf.reduce_sum(tf.square(g)) for g in gradient])
        bound = q * loss ** (q - 1) * norm + loss**q / rate
        measured = OrderedDict(local.measurements, bounds=Summed(bound), start=MeanPerClient(loss))
        return Contribution(gradient, loss**q, measured, sums=bound)

    def server_update(task: Task, server: Server, total: Total) -> Server:
        return task.server_step(server, [g * total.weight / total.sums for g in total.update])

    return Algorithm(client_update=client_update, server_update=server_update)


def test_a_weight_from_the_loss_and_further_measurements(worker: Worker, make_shards: Make) -> None:
    sizes, q, rate = [30, 45, 8, 20], 2.0, 0.1
    shards, cohorts = make_shards(sizes), [[0, 1, 2, 3], [1, 3], [0, 2]]
    ended = run(worker, SETTINGS, shards, cohorts, algorithm=q_fed_avg(q, rate))
    weights = first_weights(SETTINGS)
    for number, cohort in enumerate(cohorts):
        numerator, denominator, losses = [np.zeros_like(w) for w in weights], 0.0, []
        for client in cohort:
            samples = reference.samples_of(shards, client)
            loss = float(reference.losses_and_gradient(weights, samples)[0].mean())
            gradient = [u / np.float32(rate) for u in reference.sgd(weights, samples, SETTINGS)[0]]
            numerator = [n + np.float32(loss**q) * g for n, g in zip(numerator, gradient, strict=True)]
            squares = sum(float(np.square(g).sum()) for g in gradient)
            losses.append(loss)
            denominator += q * loss ** (q - 1) * squares + loss**q / rate
        weights = [w - n / np.float32(denominator) for w, n in zip(weights, numerator, strict=True)]
        columns = RoundRecord.of(number, cohort_of(cohort), ended.measured[number], ClientBytes(4, 4), {}).others
        assert columns == pytest.approx({"bounds": denominator, "start": np.mean(losses)}, rel=1e-5)
    reference.assert_close(ended.weights, weights)


def noisy(at_client: float, at_server: float) -> Any:
    """The mean with Gaussian noise on each update and on the sum."""

    def noise(shapes: list[Any], seed: Any) -> list[Any]:
        seeds = [tf.random.experimental.stateless_fold_in(seed, part, alg="philox") for part in range(len(shapes))]
        return [tf.random.stateless_normal(s, own, alg="philox") for s, own in zip(shapes, seeds, strict=True)]

    def encode(task: Task, state: Any, update: list[Any], weight: Any, client: Client) -> list[Any]:
        drawn = noise([u.shape for u in update], task.client_seed(client))
        return [u + at_client * n for u, n in zip(update, drawn, strict=True)]

    def finish(task: Task, state: Any, total: list[Any], weight: Any, number: Any) -> tuple[list[Any], Any]:
        drawn = noise([t.shape for t in total], task.server_seed(number))
        return [t + at_server * n for t, n in zip(total, drawn, strict=True)], state

    return Aggregator(encode=encode, finish=finish)


def only_noise(task: Task, server: Server, client: Client) -> Contribution:
    measured = measured_of_one_example()
    return Contribution(task.zeros(), tf.constant(1.0), measured)


def total_is_weights(task: Task, server: Server, total: Total) -> Server:
    return server._replace(weights=total.update)


@pytest.mark.parametrize(("at_client", "at_server", "variance"), [(2.0, 0.0, 4 * 4.0), (0.0, 3.0, 9.0)])
def test_randomness_at_clients_and_server(
    worker: Worker, make_shards: Make, at_client: float, at_server: float, variance: float
) -> None:
    """Of the variance asked for; another one each round; the same bits in two runs, others by another seed."""
    shards = make_shards([1] * 4)
    algorithm = Algorithm(client_update=only_noise, server_update=total_is_weights)

    def drawn(*rounds: int, seed: int = 1) -> list[Weights]:
        settings = train_settings(**TRAINING, seed=seed)
        noise, cohorts = noisy(at_client, at_server), [[range(4)] * each for each in rounds]
        return [each.weights for each in runs(worker, settings, shards, cohorts, algorithm=algorithm, aggregator=noise)]

    once, twice, again = drawn(1, 2, 1)
    (other,) = drawn(1, seed=2)
    assert abs(once[0].var() / variance - 1) < 5 * np.sqrt(2 / once[0].size)
    assert same_bits(once, again) and not same_bits(once, other)
    assert abs(np.corrcoef(once[0].ravel(), twice[0].ravel())[0, 1]) < 5 / np.sqrt(once[0].size)


def test_an_aggregator_with_a_state_that_clients_see(worker: Worker, make_shards: Make) -> None:
    """The state doubles each round, and each client adds what it sees of it."""
    aggregator = Aggregator(
        server_init=lambda task: tf.constant(1.0),
        broadcast=lambda task, state: state + 0.5,
        encode=lambda task, state, update, weight, client: [u + state for u in update],
        finish=lambda task, state, total, weight, number: (total, 2 * state),
    )
    algorithm = Algorithm(client_update=only_noise, server_update=total_is_weights)
    ended = run(worker, SETTINGS, make_shards([1] * 4), [range(4)] * 3, algorithm=algorithm, aggregator=aggregator)
    assert (ended.weights[0] == 4 * (4.0 + 0.5)).all()


def test_what_clients_see_of_the_server_may_be_less_than_its_state(worker: Worker, make_shards: Make) -> None:
    algorithm = Algorithm(
        client_update=fed_avg.client_update,
        server_update=fed_avg.server_update,
        server_init=lambda task: task.zeros(),
        broadcast=lambda task, server: (),
    )
    ended = run(worker, SETTINGS, make_shards([5]), [[0]], algorithm=algorithm)
    assert ended.bytes == (7_850 * 4, 7_850 * 4)
