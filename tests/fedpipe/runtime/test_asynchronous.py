"""Asynchronous training: its events against a plain simulation, and whole trainings."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpipe.contracts.algorithm import asynchrony_of
from fedpipe.errors import PipelineError
from fedpipe.runtime import cohort as cohorts
from fedpipe.runtime.asynchronous import Schedule
from fedpipe.runtime.availability import RoundAvailability
from fedpipe.runtime.cohort import Cohort
from fedpipe.runtime.worker import Worker
from tests.fedpipe.runtime.test_availability import training
from tests.fedpipe.training import same_bits, train_settings

Make = Callable[[list[int]], Path]
SECOND = {"devices": {"seconds_per_sample": 1.0}}
SPREAD = {"devices": {"seconds_per_sample": 1.0, "spread": 1.5}}


def schedule(sizes: list[int], availability: Any = None, seed: int = 1, **params: Any) -> Schedule:
    settings = train_settings(
        algorithm="fed_buff", fed_buff=params, availability=availability or SECOND, seed=seed, local_epochs=1
    )
    assert asynchrony_of(settings)
    return Schedule(settings, asynchrony_of(settings), np.array(sizes))


def summary(cohort: Cohort) -> tuple[list[int], list[int], float, float]:
    """Clients that start, clients whose update arrives, seconds, and the mean staleness."""
    arrive = cohort.clients[cohort.requests.reports]
    counts = cohort.counts
    return cohort.trained.tolist(), arrive.tolist(), counts["simulated_hours"] * 3600, counts["staleness_mean"]


def test_by_hand() -> None:
    """Clients of 1, 2 and 6 seconds, all at work, in buffers of two."""
    scheduled = schedule([1, 2, 6], buffer_size=2)
    rounds = [summary(scheduled.cohort(number)) for number in range(1, 5)]
    assert rounds == [
        ([0, 1, 2], [0, 1], pytest.approx(2), 0),  # client 0 ends at 1, and waits: its model would be the same
        ([0, 1], [0, 1], pytest.approx(2), 0),  # at 3 and at 4
        ([0, 1], [0, 1], pytest.approx(2), 0),  # at 5 and at 6: before client 2, which ends at 6 too
        ([0, 1, 2], [0, 2], pytest.approx(1), 1.5),  # client 2 at 6, and starts again; client 0 at 7
    ]
    last = scheduled.cohort(4)
    assert last.packed(None).tolist() == [[0, -1, 1000, 3], [1, -1, 1000, 1], [2, -1, 1000, 2], [2, -1, 1000, 1]]
    assert last.counts["asked"] == 3 and last.counts["staleness_max"] == 3


def simulated(sizes: list[int], rounds: int, availability: Any, concurrency: int, buffer_size: int) -> list[Any]:
    """The same events, found by looking at all clients at each of them."""
    settings = train_settings(availability=availability, seed=1)
    rng = [np.random.default_rng(np.random.SeedSequence([1, 3, t, 0])) for t in range(rounds + 1)]
    orders = [each.permutation(len(sizes)).tolist() for each in rng]
    end: dict[int, float] = {}
    since: dict[int, int] = {}
    now, events = 0.0, []
    rounds_there = [RoundAvailability(settings, np.array(sizes), t) for t in range(1, rounds + 1)]
    for t, present in enumerate(rounds_there, 1):
        started: list[int] = []
        arrived: list[int] = []
        stale: list[int] = []
        begun, dropped = now, 0
        while len(arrived) < buffer_size:
            free = [k for k in orders[t] if k in present.available and sizes[k] and k not in end and k not in started]
            for client in free[: concurrency - len(end)]:
                started.append(client)
                end[client], since[client] = now + float(present.seconds[client]), t
            if not end:
                break
            now, client = min((when, who) for who, when in end.items())
            del end[client]
            if rounds_there[since[client] - 1].lost[client]:
                dropped += 1
                continue
            arrived.append(client)
            stale.append(t - since[client])
        trained = sorted(client for client in started if not present.lost[client])
        work = present.work[trained].tolist()
        hours = pytest.approx((now - begun) / 3600)
        events.append((trained, work, sorted(arrived), len(started), dropped, hours, stale))
    return events


@pytest.mark.parametrize(("concurrency", "buffer_size"), [(12, 4), (5, 4), (5, 1), (3, 8)])
def test_is_a_plain_simulation(concurrency: int, buffer_size: int) -> None:
    sizes = [0, *range(1, 12)]
    hard = SPREAD | {"dropout_before": 0.2, "dropout_during": 0.3, "stragglers": {"share": 0.5}}
    hard |= {"cyclic": {"groups": 2, "period": 6}}
    scheduled = schedule(sizes, hard, concurrency=concurrency, buffer_size=buffer_size)
    expected = simulated(sizes, 40, hard, concurrency, buffer_size)
    for number, (trained, work, arrived, selected, dropped, hours, stale) in enumerate(expected, 1):
        cohort = scheduled.cohort(number)
        counts = cohort.counts
        assert cohort.trained.tolist() == trained
        assert sorted(cohort.clients[cohort.requests.reports]) == arrived and cohort.updates == len(arrived)
        assert (counts["asked"], counts["dropped"], counts["simulated_hours"]) == (selected, dropped, hours)
        assert counts.get("staleness_max") == max(stale, default=None)
        assert cohort.requests.work[cohort.requests.trains].tolist() == work
    assert sum(each[4] for each in expected)
    # Of a group of six, a buffer of eight never gets full: all that are at work end first.
    assert any(max(each[6], default=0) > 0 for each in expected) == (buffer_size < 6)


def test_each_client_starts_as_often_as_others_if_all_are_as_fast() -> None:
    scheduled = schedule([10] * 20, concurrency=5, buffer_size=3)
    often = Counter(int(k) for number in range(1, 1001) for k in scheduled.cohort(number).trained)
    assert sum(often.values()) == pytest.approx(3000, abs=5)
    assert all(count == pytest.approx(150, abs=40) for count in often.values())  # 3.3 standard deviations


def test_any_round_can_be_asked_for_and_other_seeds_start_others() -> None:
    first, other = schedule([5] * 30, SPREAD, concurrency=10), schedule([5] * 30, SPREAD, concurrency=10)
    rounds = [first.cohort(number) for number in range(1, 9)]
    for number in (7, 3, 8):
        assert summary(other.cohort(number)) == summary(rounds[number - 1])
    assert summary(schedule([5] * 30, SPREAD, seed=2, concurrency=10).cohort(1)) != summary(rounds[0])


def test_who_has_no_whole_batch_does_not_start_where_smaller_ones_are_dropped(
    worker: Worker, make_shards: Make, tmp_path: Path
) -> None:
    """A round of one update would have nothing to train on, and end the training."""
    changes = {"algorithm": "fed_async", "availability": SPREAD, "last_batch": "drop", "rounds": 8}
    trained = training(worker, make_shards([3, 0, 4, 9]), tmp_path, **changes)
    assert {record.examples for record in trained.records} == {4, 9}
    with pytest.raises(PipelineError, match=r"no client has a whole batch, and 'train.last_batch' drops"):
        training(worker, make_shards([3, 0]), tmp_path, **changes)


def test_latency_is_part_of_the_time() -> None:
    slow = {"devices": {"seconds_per_sample": 1.0, "latency": 100.0}}
    assert schedule([2, 3], slow, buffer_size=1).cohort(1).counts["simulated_hours"] == pytest.approx(102 / 3600)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"availability": {}}, "set 'train.availability.devices.seconds_per_sample' above 0"),
        ({"cohort": "poisson"}, "'train.cohort' poisson draws all clients of a round at once: set 'train.cohort'"),
        ({"clients_per_round": 5}, "keeps 'train.fed_buff.concurrency' clients training and draws no cohorts: set"),
        ({"availability": SECOND | {"report_goal": 3}}, "leaves nobody out for being late: remove"),
        ({"aggregator": "dp_gaussian"}, "it is the fast clients whose updates come often: choose fed_avg"),
        ({"aggregator": "secure_sum"}, "nobody knows before whose updates come together: choose fed_avg"),
        ({"aggregator": "krum", "fed_buff": {"buffer_size": 4}}, "krum needs the updates of 5 clients, and"),
        ({"algorithm": "fed_async", "aggregator": "median"}, "median needs the updates of 2 clients, and"),
        ({"availability": {"devices": {"latency": 1.0}}}, "'latency' is simulated time, of which there is none"),
    ],
)
def test_refusals(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        train_settings(**{"algorithm": "fed_buff", "availability": SECOND} | changes)


@pytest.mark.parametrize("key", ["concurrency", "buffer_size"])
def test_more_than_there_are_clients(key: str) -> None:
    settings = train_settings(algorithm="fed_buff", availability=SECOND, fed_buff={"buffer_size": 3} | {key: 9})
    cohorts.require_clients(settings, 9)
    with pytest.raises(PipelineError, match=f"'train.fed_buff.{key}' is 9, but there are 8 clients; give a number"):
        cohorts.require_clients(settings, 8)


HARD = SPREAD | {"dropout_during": 0.2, "stragglers": {"share": 0.5}}
BUFFERED = {
    "algorithm": "fed_buff",
    "fed_buff": {"concurrency": 7, "buffer_size": 3},
    "compressor": "top_k",
    "rounds": 8,
    "availability": HARD,
}


@pytest.mark.parametrize("algorithm", ["fed_buff", pytest.param("fed_async", marks=pytest.mark.slow)])
def test_a_training_that_is_stopped_and_killed_goes_on_to_the_same_bits(
    worker: Worker, make_shards: Make, tmp_path: Path, algorithm: str
) -> None:
    shards, changes = make_shards([8] * 12), BUFFERED | {"algorithm": algorithm, "fed_async": {"concurrency": 7}}
    whole = training(worker, shards, tmp_path / "whole", **changes)
    with pytest.raises(KeyboardInterrupt):
        training(worker, shards, tmp_path / "parts", stop_after=3, **changes)
    at_work = sorted(path.name for path in (tmp_path / "parts/clients").glob("*/*"))
    assert len({name.split(".")[1] for name in at_work}) > 1  # of several rounds
    with pytest.raises(MemoryError):
        training(worker, shards, tmp_path / "parts", stop_after=6, stop_with=MemoryError, **changes)
    parts = training(worker, shards, tmp_path / "parts", **changes)
    assert same_bits(whole.weights, parts.weights) and whole.records == parts.records
    columns = [record.row() for record in whole.records]
    assert max(row["staleness_max"] for row in columns) > 0 and all(row["simulated_hours"] > 0 for row in columns)
    for record, row in zip(whole.records, columns, strict=True):
        assert record.bytes_down == row["asked"] * 4 * 7850
        assert record.clients == (3 if algorithm == "fed_buff" else 1)


def test_a_checkpoint_without_an_update_that_is_under_way_is_not_used(
    worker: Worker, make_shards: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shards = make_shards([8] * 12)
    whole = training(worker, shards, tmp_path / "whole", **BUFFERED)
    with pytest.raises(KeyboardInterrupt):
        training(worker, shards, tmp_path / "parts", stop_after=3, **BUFFERED)
    for path in (tmp_path / "parts/clients").glob("*/*"):
        path.unlink()
    assert same_bits(whole.weights, training(worker, shards, tmp_path / "parts", **BUFFERED).weights)
    assert "starts anew with round 1" in capfd.readouterr().err


def test_a_round_in_which_all_are_lost(worker: Worker, make_shards: Make, tmp_path: Path) -> None:
    """Nobody is at work and nobody can start: the server steps with nothing, and others may be there then."""
    lossy = SPREAD | {"dropout_during": 0.8}
    changes = BUFFERED | {"fed_buff": {"concurrency": 3, "buffer_size": 3}, "availability": lossy, "rounds": 6}
    changes["compressor"] = "no_compression"
    trained = training(worker, make_shards([8] * 3), tmp_path, **changes)
    empty = [record for record in trained.records if not record.clients]
    assert empty and any(record.clients for record in trained.records)
    assert all(record.loss is None and record.bytes_up == 0 and record.bytes_down for record in empty)
    assert all("staleness_max" not in record.others for record in empty)


def test_synchronous_and_asynchronous_over_simulated_hours_and_bytes(
    worker: Worker, make_shards: Make, training_set: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """With devices of unlike speed, a round of all waits for the slowest; a buffer of some is there sooner."""
    images, labels = (part[-2000:] for part in training_set)
    pixels = images.reshape(2000, 784) / np.float32(255)

    def evaluate(weights: list[np.ndarray]) -> dict[str, float]:
        right = np.argmax(pixels @ weights[0] + weights[1], axis=1) == labels
        return {"test_loss": 0.0, "test_accuracy": float(right.mean())}

    shards, hours, sent = make_shards([40] * 20), {}, {}
    for algorithm, params in (("fed_avg", {}), ("fed_buff", {"buffer_size": 5}), ("fed_async", {"mu": 0.0})):
        trained = training(
            worker,
            shards,
            tmp_path / algorithm,
            evaluate=evaluate,
            evaluate_every=1,
            rounds=200,
            selection="test",
            stop_at={"accuracy": 0.7},
            algorithm=algorithm,
            availability=SPREAD,
            client_optimizer={"learning_rate": 0.1},
            server_optimizer={"momentum": 0.0},
            **{algorithm: params},
        )
        assert trained.reached is not None
        hours[algorithm] = sum(record.others["simulated_hours"] for record in trained.records)
        sent[algorithm] = sum(record.bytes_up for record in trained.records)
        assert sent[algorithm] == 4 * 7850 * sum(record.clients for record in trained.records)
    assert hours["fed_buff"] < hours["fed_avg"] / 3 and hours["fed_async"] < hours["fed_avg"] / 3
