"""A finished training with more rounds resumes from its end, to the bits of one that had them from the start."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpipe.config.train import Train
from fedpipe.networks.network import Weights
from fedpipe.runtime.checkpoints import Checkpoints
from fedpipe.runtime.kept_state import KeptFiles
from fedpipe.runtime.trained import Trained
from fedpipe.runtime.worker import Worker
from tests.fedpipe.runtime.test_checkpoints import KEY, checkpoint
from tests.fedpipe.training import same_bits, train, train_settings

SCAFFOLD: dict[str, Any] = {
    "model": "logistic_regression",
    "algorithm": "scaffold",
    "clients_per_round": 6,
    "batch_size": 5,
    "evaluate_every": 2,
    "keep_best": True,
    "selection": "test",
    "client_optimizer": {"schedule": {"name": "exponential", "factor": 0.5}},
}


def accuracy(weights: Weights) -> dict[str, float]:
    """Falls from round to round, so that an evaluation too many would change the best round."""
    return {"test_accuracy": 1 / (1 + float(np.abs(weights[0]).sum())), "test_loss": 1.0}


def finished(settings: Train, shards: Path, worker: Worker, folder: Path) -> tuple[Trained, list[int]]:
    """A training that ends, and the rounds that it ran."""
    rounds: list[int] = []
    with Checkpoints(folder, KEY, settings) as checkpoints:
        ended = train(
            settings,
            shards,
            worker,
            folder,
            on_round=lambda completed: rounds.append(completed.record.round),
            evaluate=accuracy,
            checkpoints=checkpoints,
        )
    return ended, rounds


def test_more_rounds_have_the_bits_of_as_many_from_the_start(
    small_images: Path, worker: Worker, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The end of three rounds was evaluated, and could have been the best; on the way to five it is not."""
    whole, _ = finished(train_settings(**SCAFFOLD, rounds=5), small_images, worker, tmp_path / "whole")
    part, _ = finished(train_settings(**SCAFFOLD, rounds=3), small_images, worker, tmp_path / "part")
    assert part.records[-1].is_evaluated and not whole.records[2].is_evaluated
    longer, rounds = finished(train_settings(**SCAFFOLD, rounds=5), small_images, worker, tmp_path / "part")
    assert rounds == [4, 5] and "continues with round 4 of 5 after a finished training" in capfd.readouterr().err
    assert same_bits(longer.weights, whole.weights) and longer.records == whole.records
    assert (longer.best_round, *map(np.ndarray.tobytes, longer.best)) == (
        whole.best_round,
        *map(np.ndarray.tobytes, whole.best),
    )


def end(folder: Path, settings: Train, key: dict[str, Any] = KEY, rounds: int = 2) -> None:
    """A training that ended after ``rounds``, of three clients that kept something."""
    with Checkpoints(folder, key, settings) as checkpoints:
        kept = KeptFiles(checkpoints.kept_folder, 3, guarded=True)
        (kept.folder / "0.1").write_text("a")
        (kept.folder / "1.2").write_text("b")
        kept.advance(np.array([0]), 1)
        kept.advance(np.array([1]), 2)
        checkpoints.ended(checkpoint(rounds), kept)


def start(folder: Path, settings: Train, key: dict[str, Any] = KEY) -> int:
    """The round after which a training starts; it is killed at once."""
    with pytest.raises(KeyboardInterrupt), Checkpoints(folder, key, settings) as checkpoints:
        resumed = checkpoints.resumed
        if resumed is not None:
            kept = checkpoints.kept_state(3)
            assert kept.last.tolist() == [1, 2, -1]
            assert sorted(file.name for file in checkpoints.kept_folder.iterdir()) == ["0.1", "1.2"]
        raise KeyboardInterrupt
    return 0 if resumed is None else resumed.round


def settings_of(rounds: int, **changes: Any) -> Train:
    return train_settings(rounds=rounds, evaluate_every=0, **changes)


def test_it_is_used_again_and_again_for_more_rounds_only(tmp_path: Path) -> None:
    end(tmp_path, settings_of(2))
    assert not (tmp_path / "checkpoints").exists() and not (tmp_path / "clients").exists()
    assert [start(tmp_path, settings_of(rounds)) for rounds in (2, 1, 3, 9)] == [0, 0, 2, 2]


def test_one_that_stopped_early_is_trained_again_if_it_is_run_again(tmp_path: Path) -> None:
    end(tmp_path, settings_of(7))
    assert [start(tmp_path, settings_of(rounds)) for rounds in (7, 8)] == [0, 2]


def test_another_training_damage_and_a_switch_leave_it_unused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    end(tmp_path, settings_of(2))
    assert start(tmp_path, settings_of(3), KEY | {"shards": "cd"}) == 0 and capfd.readouterr().err == ""
    (client,) = (tmp_path / "finished").glob("clients/1.2")
    client.write_text("c")
    assert start(tmp_path, settings_of(3)) == 0 and "clients is damaged" in capfd.readouterr().err
    client.write_text("b")
    assert start(tmp_path, settings_of(3)) == 2
    (file,) = (tmp_path / "finished").glob("round-*")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert start(tmp_path, settings_of(3)) == 0 and "is damaged" in capfd.readouterr().err
    end(tmp_path / "other", settings_of(2, checkpoint={"keep_end": False}))
    assert not (tmp_path / "other/finished").exists()


def test_rates_over_all_rounds_start_anew_and_say_why(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cosine = {"client_optimizer": {"schedule": {"name": "cosine"}}}
    end(tmp_path, settings_of(2, **cosine), KEY | {"params": {"rounds": 2}})
    assert start(tmp_path, settings_of(3, **cosine), KEY | {"params": {"rounds": 3}}) == 0
    assert (
        "starts anew: 'train.client_optimizer.schedule' cosine without 'rounds' runs over all of 'train.rounds'"
        in capfd.readouterr().err
    )
