"""FedBuff against plain NumPy: weights, what clients keep while it is under way, and what is measured."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpipe.config.train import Train
from fedpipe.contracts.algorithm import asynchrony_of
from fedpipe.runtime.asynchronous import Schedule
from fedpipe.runtime.cohort import Cohort
from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms import reference
from tests.fedpipe.algorithms.reference import SIZES, TRAINING, Weights
from tests.fedpipe.training import first_weights, run, same_bits, train_settings

Make = Callable[[list[int]], Path]
DEVICES = {"devices": {"seconds_per_sample": 1.0, "spread": 0.5}}


def settings_of(algorithm: str, **changes: Any) -> Train:
    return train_settings(**TRAINING | {"availability": DEVICES, "algorithm": algorithm} | changes)


def cohorts_of(settings: Train, rounds: int) -> list[Cohort]:
    assert asynchrony_of(settings)
    schedule = Schedule(settings, asynchrony_of(settings), np.array(SIZES))
    return [schedule.cohort(number) for number in range(1, rounds + 1)]


def rows(cohort: Cohort) -> list[tuple[int, bool, bool]]:
    """Client, whether it starts, whether its update arrives."""
    requests = cohort.requests
    return list(zip(requests.id.tolist(), requests.trains.tolist(), requests.reports.tolist(), strict=True))


@pytest.mark.parametrize(
    ("concurrency", "exponent", "weighting", "server_rate"),
    [("all", 0.5, "uniform", 1.0), (3, 1.5, "examples", 0.5), (3, 0.0, "uniform", 1.0)],
)
def test_steps_with_the_mean_of_the_buffer_and_measures_what_arrived(
    worker: Worker, make_shards: Make, concurrency: Any, exponent: float, weighting: str, server_rate: float
) -> None:
    settings = settings_of(
        "fed_buff",
        fed_buff={"concurrency": concurrency, "buffer_size": 2, "exponent": exponent},
        client_weighting=weighting,
        server_optimizer={"learning_rate": server_rate},
    )
    shards, cohorts = make_shards(SIZES), cohorts_of(settings, 8)
    ended = run(worker, settings, shards, cohorts)

    weights = first_weights(settings)
    under_way: dict[int, tuple[int, Weights, float]] = {}
    late = 0
    for number, cohort in enumerate(cohorts, 1):
        updates, masses, losses = [], [], 0.0
        for client, starts, arrives in rows(cohort):
            if starts:
                samples = reference.samples_of(shards, client)
                update, _, loss = reference.sgd(weights, samples, settings)
                under_way[client] = number, update, loss
            if arrives:
                since, update, loss = under_way[client]
                factor = np.float32((1 + number - since) ** -exponent)
                updates.append([factor * part for part in update])
                masses.append(SIZES[client] if weighting == "examples" else 1)
                late, losses = max(late, number - since), losses + loss
        assert len(updates) == 2
        weights = reference.moved(weights, reference.mean(updates, masses), server_rate)
        reference.assert_close(ended.weights_by_round[number - 1], weights)
        arrived = [client for client, _, arrives in rows(cohort) if arrives]
        measured = ended.rounds[number - 1]
        assert measured["clients"] == 2 and measured["non_finite"] == 0
        assert measured["seen"] == 2 * measured["examples"] == 2 * sum(SIZES[client] for client in arrived)
        assert measured["loss"] == pytest.approx(losses, rel=1e-5)
    assert late >= 2  # else nothing of staleness is tested
    twice = [cohort for cohort in cohorts if len(set(cohort.clients)) < len(cohort.clients)]
    assert twice or concurrency == 3  # a client whose update arrives, and that starts again in the same round
    last = {client: max(t for t, c in enumerate(cohorts, 1) if client in c.trained) for client in under_way}
    assert sorted(ended.kept) == sorted(f"{client}.{number}" for client, number in last.items())


def test_if_all_arrive_at_once_it_is_fed_avg(worker: Worker, make_shards: Make) -> None:
    shards = make_shards(SIZES)
    buffered = run(worker, settings_of("fed_buff"), shards, [[0, 1, 3], [1, 4]])
    assert same_bits(buffered.weights, run(worker, train_settings(**TRAINING), shards, [[0, 1, 3], [1, 4]]).weights)


def test_a_compressor_keeps_its_residual_while_an_update_is_under_way(worker: Worker, make_shards: Make) -> None:
    """What it did not send is sent with the client's next update, whatever arrived in the meantime."""
    settings = settings_of("fed_buff", fed_buff={"buffer_size": 2}, compressor="top_k", top_k={"share": 0.01})
    shards, cohorts = make_shards(SIZES), cohorts_of(settings, 6)
    ended = run(worker, settings, shards, cohorts)
    weights = first_weights(settings)
    residual: dict[int, np.ndarray] = {}
    sent: dict[int, tuple[int, np.ndarray]] = {}
    for number, cohort in enumerate(cohorts, 1):
        arrived = []
        for client, starts, arrives in rows(cohort):
            if starts:
                update, _, _ = reference.sgd(weights, reference.samples_of(shards, client), settings)
                whole = np.concatenate([part.ravel() for part in update]) + residual.get(client, np.float32(0))
                kept = np.zeros_like(whole)
                largest = np.argsort(-np.abs(whole), kind="stable")[:79]
                kept[largest] = whole[largest]
                residual[client], sent[client] = whole - kept, (number, kept)
            if arrives:
                since, kept = sent[client]
                arrived.append((SIZES[client], kept * np.float32((1 + number - since) ** -0.5)))
        flat = sum(size * kept for size, kept in arrived) / np.float32(sum(size for size, _ in arrived))
        parts = np.split(flat, [weights[0].size])
        weights = reference.moved(weights, [p.reshape(w.shape) for p, w in zip(parts, weights, strict=True)])
        reference.assert_close(ended.weights_by_round[number - 1], weights)
        assert ended.rounds[number - 1]["compressed_bytes"] == len(arrived) * ended.rounds[0]["compressed_bytes"] / 2


def test_an_update_that_is_not_finite_is_left_out_when_it_arrives(worker: Worker, make_shards: Make) -> None:
    settings = settings_of(
        "fed_buff", fed_buff={"buffer_size": 2}, client_optimizer={"learning_rate": 1e38}, loss="squared_error"
    )
    cohorts = cohorts_of(settings, 3)
    ended = run(worker, settings, make_shards(SIZES), cohorts)
    assert [measured["non_finite"] for measured in ended.rounds] == [2, 2, 2]
    assert [measured["clients"] for measured in ended.rounds] == [0, 0, 0]
    assert same_bits(ended.weights, first_weights(settings))
