"""Devices that are not there, drop out, do less or are late: the shares that were asked for, and whole trainings."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpipe.contracts.compressor import COMPRESSORS
from fedpipe.errors import PipelineError
from fedpipe.lazy import tf
from fedpipe.runtime.availability import Message, RoundAvailability
from fedpipe.runtime.checkpoints import Checkpoints
from fedpipe.runtime.cohort import Cohort, cohort
from fedpipe.runtime.rounds import CompletedRound
from fedpipe.runtime.worker import Worker
from tests.fedpipe.training import same_bits, train, train_settings

DEVICES = {"seconds_per_sample": 0.5, "spread": 1.0}
SIZES = np.full(1000, 10)


def asked_cohort(number: int = 1, sizes: np.ndarray = SIZES, per_round: Any = "all", **availability: Any) -> Cohort:
    return cohort(train_settings(availability=availability, clients_per_round=per_round), sizes, number)


def test_off_adds_nothing() -> None:
    assert asked_cohort().counts == {} and len(asked_cohort().clients) == 1000


def test_dropouts() -> None:
    round_1, round_2 = (asked_cohort(t, dropout_before=0.3, dropout_during=0.2) for t in (1, 2))
    assert round_1.counts["unavailable"] == pytest.approx(300, abs=45)  # three standard deviations
    assert round_1.counts["asked"] == 1000 - round_1.counts["unavailable"]
    assert round_1.counts["dropped"] == pytest.approx(140, abs=33)
    assert len(round_1.clients) == round_1.counts["asked"] - round_1.counts["dropped"]
    assert round_1.clients.tolist() != round_2.clients.tolist()


def test_what_happens_to_a_client_does_not_depend_on_who_is_asked() -> None:
    everyone, some = (asked_cohort(per_round=number, dropout_during=0.5) for number in ("all", 100))
    assert set(some.clients) < set(everyone.clients)
    assert some.counts["asked"] == 100 and some.counts["dropped"] == 100 - len(some.clients)


def test_stragglers_do_a_part() -> None:
    round_1 = asked_cohort(stragglers={"share": 0.4, "least_work": 0.5})
    partial = round_1.requests.work[round_1.requests.work < 1000]
    assert len(partial) == round_1.counts["stragglers"] == pytest.approx(400, abs=47)
    assert partial.min() >= 500 and partial.mean() == pytest.approx(750, abs=25)


def test_groups_take_turns() -> None:
    cycle = {"groups": 2, "period": 4}
    rounds = [set(asked_cohort(t, cyclic=cycle).clients) for t in range(1, 9)]
    assert rounds[0] == rounds[1] == rounds[4] and rounds[2] == rounds[3] == rounds[6]
    assert not rounds[0] & rounds[2] and len(rounds[0]) == len(rounds[2]) == 500


def test_the_first_to_finish_count() -> None:
    sizes = np.arange(1, 1001)
    everyone = asked_cohort(sizes=sizes, per_round=100, devices=DEVICES)
    first = asked_cohort(sizes=sizes, per_round=100, devices=DEVICES, report_goal=70)
    present = RoundAvailability(train_settings(availability={"devices": DEVICES}), sizes, 1)
    seconds = present.seconds[everyone.clients]
    assert first.counts["late"] == 30
    assert first.clients.tolist() == sorted(everyone.clients[np.argsort(seconds)[:70]])
    assert first.counts["simulated_hours"] == np.sort(seconds)[69] / 3600
    assert everyone.counts["simulated_hours"] == seconds.max() / 3600


def test_speeds_are_lognormal_and_stay() -> None:
    first, two = (
        RoundAvailability(train_settings(availability={"devices": DEVICES}), SIZES, t).seconds for t in (1, 2)
    )
    logs = np.log(first / (10 * 0.5))
    assert first.tolist() == two.tolist()
    assert logs.mean() == pytest.approx(0, abs=0.1) and logs.std() == pytest.approx(1, abs=0.08)


def test_messages_take_the_time_of_their_connection() -> None:
    sizes, message = np.arange(1, 6), Message(down=1_000_000, up=500_000)
    device = {"seconds_per_sample": 2.0, "latency": 1.0}
    for line, extra in (
        ({}, 0),
        ({"down": 4.0}, 2),  # 8 megabits
        ({"up": 1.0}, 4),
        ({"down": 4.0, "up": 1.0}, 6),
    ):
        settings = train_settings(local_epochs=3, availability={"devices": device | {"bandwidth": line}})
        present = RoundAvailability(settings, sizes, 1, message)
        assert present.seconds.tolist() == [1 + 2 * 3 * n + extra for n in sizes]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"algorithm": "ditto"}, [1 + 2 * 6 * n for n in (4, 10)]),
        ({"algorithm": "mime"}, [2 * 1 + 2 * 7 * n for n in (4, 10)]),  # two exchanges, and a pass before the steps
        ({"algorithm": "afl", "client_weighting": "uniform"}, [1 + 2 * (3 + 1 / 3) * n for n in (4, 10)]),
        ({"last_batch": "drop", "batch_size": 4}, [1 + 2 * 3 * n for n in (4, 8)]),
        ({"algorithm": "mime_lite", "last_batch": "drop", "batch_size": 5}, [1, 1 + 2 * (3 * 10 + 10)]),
    ],
)
def test_time_is_that_of_all_passes_over_the_samples(changes: dict[str, Any], expected: list[float]) -> None:
    devices = {"devices": {"seconds_per_sample": 2.0, "latency": 1.0}}
    settings = train_settings(local_epochs=3, availability=devices, **changes)
    assert RoundAvailability(settings, np.array([4, 10]), 1).seconds.tolist() == pytest.approx(expected)


def test_a_straggler_takes_a_part_of_its_local_steps_and_all_of_the_other_passes() -> None:
    slow = {"stragglers": {"share": 1.0, "least_work": 0.2}, "devices": {"seconds_per_sample": 1.0}}
    settings = train_settings(algorithm="mime_lite", local_epochs=3, availability=slow)
    present = RoundAvailability(settings, np.array([10, 10]), 1)
    assert (present.work < 1000).all()
    assert present.seconds.tolist() == pytest.approx((30 * present.work / 1000 + 10).tolist())


def test_clients_that_are_measured_take_the_time_before_the_others_start() -> None:
    """Seven candidates get the model and take a forward pass; then the chosen ones train, without getting it again."""
    sizes, message = np.arange(10, 22), Message(down=1_000_000, up=500_000)
    devices = {"devices": {"seconds_per_sample": 1.0, "latency": 3.0, "bandwidth": {"down": 4.0, "up": 1.0}}}
    settings = train_settings(**CHOICE, availability=devices)
    candidates: list[int] = []

    def losses(ids: np.ndarray, number: int) -> np.ndarray:
        candidates.extend(ids)
        return ids.astype(np.float32)

    selected = cohort(settings, sizes, 1, losses, message)
    assert len(candidates) == 7 and selected.counts["measured"] == 7
    before = 3 + 2 + max(sizes[candidates]) / 3
    training = 3 + 4 + max(sizes[selected.clients])
    assert selected.counts["simulated_hours"] == pytest.approx((before + training) / 3600)


def test_clients_without_a_step_are_not_among_the_first_to_finish() -> None:
    sizes = np.array([0, 20, 3, 30, 40])
    goal: Any = {"devices": {"seconds_per_sample": 1.0}, "report_goal": 2}
    assert cohort(train_settings(availability=goal), sizes, 1).clients.tolist() == [1, 2]
    assert cohort(train_settings(availability=goal, last_batch="drop"), sizes, 1).clients.tolist() == [1, 3]
    assert cohort(train_settings(availability=goal), np.array([0, 0, 0, 30]), 1).clients.tolist() == [0, 3]


def test_connections_are_lognormal_and_leave_the_speeds_as_they_are() -> None:
    line = {"up": 8.0, "spread": 0.5}
    with_line, without = (
        RoundAvailability(
            train_settings(availability={"devices": DEVICES | {"bandwidth": each}}), SIZES, 1, Message(up=10**6)
        ).seconds
        for each in (line, {})
    )
    logs = np.log(with_line - without)
    assert logs.mean() == pytest.approx(0, abs=0.05) and logs.std() == pytest.approx(0.5, abs=0.04)
    assert abs(np.corrcoef(logs, np.log(without))[0, 1]) < 0.1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"availability": {"devices": {"bandwidth": {"up": 1.0}}}},
            "'bandwidth.up' is simulated time, of which there is none: set 'seconds_per_sample' above 0, or 'bandwidth",
        ),
        ({"availability": {"report_goal": 3}}, "set 'devices.seconds_per_sample' above 0"),
        (
            {"availability": {"report_goal": 3, "devices": DEVICES}, "clients_per_round": 3},
            "'train.availability.report_goal' is 3, and 'train.clients_per_round' asks 3 clients: lower the goal",
        ),
        (
            {"availability": {"report_goal": 2, "devices": DEVICES}, "cohort": "fixed", "fixed": {"ids": [4, 5]}},
            "'train.fixed.ids' asks 2 clients: lower the goal, or ask more",
        ),
        ({"availability": {"cyclic": {"groups": 3, "period": 2}}}, "3 groups need a round each"),
        ({"availability": {"dropout_before": 1.0}}, "less than 1"),
    ],
)
def test_refusals(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        train_settings(**changes)


def training(
    worker: Worker,
    shards: Path,
    folder: Path,
    stop_after: int | None = None,
    stop_with: type[BaseException] = KeyboardInterrupt,
    evaluate: Any = None,
    **changes: Any,
) -> Any:
    """A training, or ``stop_with`` if it is stopped after a round; it resumes from a checkpoint in ``folder``.

    Of KeyboardInterrupt it saves itself; of others it leaves what a killed process would.
    """
    settings = train_settings(
        **{
            "model": "logistic_regression",
            "rounds": 4,
            "evaluate_every": 0,
            "local_epochs": 2,
            "batch_size": 4,
            "server_optimizer": {"momentum": 0.5},
            "checkpoint": {"seconds": 0.0},
        }
        | changes
    )

    def on_round(completed: CompletedRound) -> None:
        if completed.record.round == stop_after:
            raise stop_with

    with Checkpoints(folder, {"params": {}}, settings) as checkpoints:
        return train(settings, shards, worker, folder, on_round=on_round, evaluate=evaluate, checkpoints=checkpoints)


HARD = {
    "dropout_before": 0.2,
    "dropout_during": 0.2,
    "stragglers": {"share": 0.5},
    "devices": DEVICES,
    "report_goal": 4,
}
CHOICE = {"cohort": "power_of_choice", "clients_per_round": 5, "power_of_choice": {"candidates": 7}}


@pytest.mark.slow
def test_a_training_with_all_of_it_goes_on_to_the_same_bits(
    worker: Worker, make_shards: Callable[[list[int]], Path], tmp_path: Path
) -> None:
    shards = make_shards([8] * 12)
    whole = training(worker, shards, tmp_path / "whole", availability=HARD, **CHOICE)
    with pytest.raises(KeyboardInterrupt):
        training(worker, shards, tmp_path / "halves", stop_after=2, availability=HARD, **CHOICE)
    halves = training(worker, shards, tmp_path / "halves", availability=HARD, **CHOICE)
    assert same_bits(whole.weights, halves.weights) and whole.records == halves.records
    for record in whole.records:
        columns = record.row()
        assert columns["measured"] == 7 and columns["asked"] == 5 and columns["clients"] <= 4
        assert columns["asked"] - columns["dropped"] - columns["late"] == columns["clients"]
        assert record.bytes_down == 7 * 4 * 7850 and record.bytes_up == record.clients * 4 * 7850 + 7 * 4
    assert any(record.others["stragglers"] for record in whole.records)


def test_a_round_without_anybody_keeps_the_weights_and_says_so(
    worker: Worker, make_shards: Callable[[list[int]], Path], tmp_path: Path
) -> None:
    shards = make_shards([8, 8, 8])
    gone = {"dropout_before": 0.6}
    empty = [t for t in range(1, 9) if not len(asked_cohort(t, np.full(3, 8), **gone).clients)]
    assert empty and empty[0] > 1, "another seed: the first round is to train"
    runs = [
        training(worker, shards, tmp_path / str(rounds), rounds=rounds, availability=gone)
        for rounds in (empty[0] - 1, empty[0])
    ]
    assert same_bits(runs[0].weights, runs[1].weights)  # momentum would move them on
    record = runs[1].records[-1]
    assert record.loss is None and record.clients == 0 and record.bytes_down == record.bytes_up == 0
    assert "no training example, 0 clients" in record.line(8, 0.1)
    with pytest.raises(KeyboardInterrupt):
        training(worker, shards, tmp_path / "halves", stop_after=empty[0], rounds=6, availability=gone)
    halves = training(worker, shards, tmp_path / "halves", rounds=6, availability=gone)
    whole = training(worker, shards, tmp_path / "whole", rounds=6, availability=gone)
    assert same_bits(whole.weights, halves.weights)
    assert [dataclasses.asdict(each) for each in whole.records] == [dataclasses.asdict(each) for each in halves.records]


@pytest.mark.parametrize("algorithm", ["fed_avg", "fed_buff"])
def test_a_compressed_update_takes_less_time(
    worker: Worker, make_shards: Callable[[list[int]], Path], tmp_path: Path, algorithm: str
) -> None:
    """By the bytes that it has less, for each round waits for one client more or less."""
    devices = {"seconds_per_sample": 1e-9, "bandwidth": {"up": 0.001}}
    shards = make_shards([4])
    changes: Any = {"algorithm": algorithm, "fed_buff": {"buffer_size": 1}, "rounds": 2}
    changes["availability"] = {"devices": devices}
    records = [
        training(worker, shards, tmp_path / compressor, compressor=compressor, **changes).records
        for compressor in ("no_compression", "quantisation")
    ]
    for each in records:
        for record in each:
            assert record.others["simulated_hours"] == pytest.approx(record.bytes_up * 8 / 1000 / 3600, rel=1e-6)
    assert records[1][0].bytes_up < records[0][0].bytes_up / 3


def test_an_update_whose_size_nobody_knows_before_is_refused(
    worker: Worker, make_shards: Callable[[list[int]], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = COMPRESSORS.of("quantisation")

    def by_content(task: Any, update: Any, client: Any, residual: Any) -> Any:
        sent, residual, _ = plain.compress(task, update, client, residual)  # type: ignore[misc]
        return sent, residual, tf.math.count_nonzero(sent[0])

    others, changed = COMPRESSORS.of, dataclasses.replace(plain, compress=by_content)
    monkeypatch.setattr(COMPRESSORS, "of", lambda name: changed if name == "quantisation" else others(name))
    shards = make_shards([4])
    changes: Any = {"compressor": "quantisation", "rounds": 1}
    devices: Any = {"seconds_per_sample": 1.0, "bandwidth": {"down": 1.0}}
    assert training(worker, shards, tmp_path / "down", availability={"devices": devices}, **changes).records
    devices["bandwidth"]["up"] = 1.0
    with pytest.raises(PipelineError, match=r"bandwidth.up' needs the size of an update before .*quantisation.py says"):
        training(worker, shards, tmp_path / "up", availability={"devices": devices}, **changes)


@pytest.mark.parametrize("aggregator", ["mean", "dp_gaussian"])
def test_a_round_in_which_only_clients_without_samples_are_left_is_no_mistake(
    worker: Worker, make_shards: Callable[[list[int]], Path], tmp_path: Path, aggregator: str
) -> None:
    changes = {
        "aggregator": aggregator,
        "client_weighting": "uniform",
        "rounds": 8,
        "availability": {"dropout_during": 0.5},
    }
    trained = training(worker, make_shards([0, 0, 8]), tmp_path, **changes)
    answers = [record for record in trained.records if record.others["asked"] > record.others["dropped"]]
    lost = [record for record in answers if not record.examples]
    assert lost and all(record.loss is None for record in lost) and any(r.loss for r in trained.records)
