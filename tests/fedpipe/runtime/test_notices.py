"""What is reported of trainings that end without an error and not as people want; and those that end early."""

from pathlib import Path
from typing import Any

import pytest

from fedpipe.errors import NothingTrainedError
from fedpipe.json_model import json_text
from fedpipe.runtime.hooks import StopWithoutGain
from fedpipe.runtime.records import RoundRecord, diverged
from fedpipe.runtime.rounds import History
from fedpipe.runtime.worker import Worker
from tests.fedpipe.training import train, train_settings

SMALL: dict[str, Any] = {"model": "logistic_regression", "rounds": 2, "batch_size": 5, "evaluate_every": 0}


def test_a_sum_that_is_rounded_to_zero_is_reported_once(
    small_images: Path, worker: Worker, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    integers = {"aggregator": "secure_sum", "client_weighting": "uniform"}
    settings = train_settings(**SMALL | integers, secure_sum={"bits": 8, "norm": 1000.0})
    train(settings, small_images, worker, tmp_path)
    lines = capfd.readouterr().err
    assert (
        lines.count("changed no weight: all that 12 clients sent was rounded to 0") == 1 and "round 1 changed" in lines
    )
    train(train_settings(**SMALL | integers), small_images, worker, tmp_path)
    assert "changed no weight" not in capfd.readouterr().err


def test_a_training_that_diverged_ends_with_a_warning(
    small_images: Path, worker: Worker, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = train_settings(**SMALL, server_optimizer={"learning_rate": 1e5})
    ended = train(settings, small_images, worker, tmp_path)
    assert "warning: the training diverged" in capfd.readouterr().err and ended.summary()["diverged"] is True


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([2.3, 0.2], None),
        ([0.01, 0.4], None),  # from a champion
        ([2.3, 4e21], (2.3, 4e21)),
        ([2.3, None, 24.0, None], (2.3, 24.0)),
        ([None], None),
    ],
)
def test_which_losses_diverge(losses: list[float | None], expected: tuple[float, float] | None) -> None:
    assert diverged([record(number, loss) for number, loss in enumerate(losses, 1)]) == expected


def record(number: int, loss: float | None = 1.0, accuracy: float | None = None) -> RoundRecord:
    return RoundRecord(number, loss, 0.5, 2, 0, 40, 8, 8, others={"validation_accuracy": accuracy})


@pytest.mark.parametrize(
    ("accuracies", "stops"),
    [
        ([0.5], False),
        ([0.5, 0.4], False),
        ([0.5, 0.4, 0.5], True),  # an equal accuracy is no higher one
        ([0.5, 0.4, 0.6], False),
        ([0.5, None, None], True),  # rounds count, evaluated or not
        ([None, None, None], False),
    ],
)
def test_patience_counts_rounds_since_the_highest_accuracy(accuracies: list[float | None], stops: bool) -> None:
    history = History(None)
    for number, accuracy in enumerate(accuracies, 1):
        history.add(record(number, accuracy=accuracy), 0.1, None)
    assert StopWithoutGain(2, "validation", history).stops(history.records[-1]) is stops


def test_patience_ends_a_training(small_images: Path, worker: Worker, tmp_path: Path) -> None:
    settings = train_settings(
        **SMALL | {"rounds": 9, "evaluate_every": 1, "selection": "test"}, stop_at={"patience": 2}
    )
    accuracies = iter([0.5, 0.6, 0.4, 0.6, 0.9])
    ended = train(
        settings, small_images, worker, tmp_path, evaluate=lambda weights: {"test_accuracy": next(accuracies)}
    )
    assert len(ended.records) == 4


def test_a_round_of_clients_without_samples_is_a_round_like_others(
    make_shards: Any, worker: Worker, tmp_path: Path
) -> None:
    """Chance draws them, and the next round others."""
    settings = train_settings(**SMALL | {"rounds": 8}, clients_per_round=1)
    ended = train(settings, make_shards([0, 10]), worker, tmp_path)
    losses = [each.loss for each in ended.records]
    assert len(losses) == 8 and None in losses and any(losses)
    with pytest.raises(NothingTrainedError, match="round 1: none of its 1 clients has a sample"):
        train(settings, make_shards([0, 0]), worker, tmp_path)


def test_what_json_does_not_have_is_null() -> None:
    content = {"a": float("inf"), "b": [1, float("nan"), {"c": -float("inf")}], "d": 0.5, "e": "Infinity"}
    assert (
        json_text(content).replace(" ", "").replace("\n", "")
        == '{"a":null,"b":[1,null,{"c":null}],"d":0.5,"e":"Infinity"}'
    )
