"""With secret noise, what leaves the machine tells nothing exact of clients' data beside epsilon."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

import layout
from fedpipe.errors import PipelineError
from fedpipe.privacy import ledger
from fedpipe.tracking import journal
from stages import evaluate, train
from tests.stages import test_train
from tests.stages.test_train import trained

project = test_train.project  # a fixture

SECRET = {
    "aggregator": "dp_gaussian",
    "client_weighting": "uniform",
    "privacy": {"delta": 1e-5, "noise": "secret"},
    "availability": {"dropout_during": 0.3},
    "rounds": 3,
}
OF_TEST_IMAGES = {"test_loss", "test_accuracy", "test_top_3_accuracy"}


@pytest.fixture(autouse=True)
def loose(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tight epsilon at the end of a training, which takes two seconds, but where it is looked at."""
    monkeypatch.setattr(ledger, "_TIGHT_UP_TO", 0.0)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What MLflow is told, call by call."""
    calls: list[tuple[Any, ...]] = []

    class Told(journal._Untracked):
        def log_round(self, step: int, metrics: Any) -> None:
            calls.append(("round", {name for name, value in metrics.items() if not np.isnan(value)}))

        def log_results(self, **results: Any) -> None:
            calls.append(("results", results))

    monkeypatch.setattr(journal, "record_training", lambda *_: Told())
    monkeypatch.setattr(
        journal.EvaluationRecord, "log_results", lambda self, **results: calls.append(("eval", results))
    )
    return calls


def test_tables_of_the_training_tell_of_the_model_only(
    project: Path, calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "_TIGHT_UP_TO", 100.0)
    layout.PARTITION.parent.mkdir(exist_ok=True)
    layout.PARTITION.write_text('{"samples": 140}')
    rounds, summary = trained(**SECRET)
    known = set(rounds.columns[rounds.notna().any()])
    assert known == {"round", "epsilon", "clip_norm"} | OF_TEST_IMAGES
    assert {"clients", "clipped", "train_loss", "asked", "dropped", "bytes_up", "test_clients_accuracy"} < set(
        rounds.columns
    )
    assert set(summary) == {
        *("rounds", "weights", "epsilon_rdp", "epsilon_pld", "delta", "neighbours", "noise", "weights_sha256"),
    }
    assert layout.TRAINING_PICTURE.stat().st_size > 10_000
    *each, (_, results) = calls
    assert [names for _, names in each] == [{"epsilon", "clip_norm", *OF_TEST_IMAGES}] * 3
    assert results["tables"] == [layout.ROUNDS, layout.TRAINING] and results["pictures"] == [layout.TRAINING_PICTURE]
    assert set(results["figures"]) == {"privacy"}
    assert set(results["figures"]["privacy"]) == {"epsilon_rdp", "epsilon_pld", "neighbours"}
    assert "clients" not in (train.LOGS / "rounds.log").read_text()


def test_tables_of_the_evaluation_tell_of_the_test_images_only(project: Path, calls: list[tuple[Any, ...]]) -> None:
    trained(**SECRET, algorithm="ditto")
    evaluate.main()
    assert load_file(layout.PERSONAL) == {}  # they are made without noise
    table = pd.read_csv(layout.CLIENT_TABLE)
    assert table["client"].tolist() == list(range(6)) and table.drop(columns="client").isna().all(axis=None)
    measured = json.loads(layout.EVALUATION.read_text())
    assert measured["train"] == {} and set(measured["test"]) == {"loss", "accuracy"}
    assert layout.CLIENT_PICTURE.is_file() and calls[-1][1]["metrics"] == measured


@pytest.mark.slow
def test_figures_are_those_of_the_same_training_with_seeded_noise_where_they_are_told(project: Path) -> None:
    """The columns are the same ones, so that whatever reads the tables reads both."""
    secret, _ = trained(**SECRET)
    evaluate.main()
    clients = pd.read_csv(layout.CLIENT_TABLE)
    shutil.rmtree(train.LOGS)
    seeded, summary = trained(**SECRET | {"privacy": {"delta": 1e-5, "noise": "seeded"}})
    evaluate.main()
    assert list(secret) == list(seeded) and secret["epsilon"].tolist() == seeded["epsilon"].tolist()
    assert {"train", "non_finite", "bytes_up"} < set(summary)
    assert set(clients) < set(pd.read_csv(layout.CLIENT_TABLE))


def test_a_diverged_client_does_not_end_a_training_that_must_not_tell_of_it(project: Path) -> None:
    far = {"name": "sgd", "learning_rate": 1e38, "momentum": 0.0}
    rounds, _ = trained(**SECRET, client_optimizer=far)
    assert len(rounds) == 3
    with pytest.raises(PipelineError, match="were not finite"):
        trained(**SECRET | {"privacy": {"delta": 1e-5, "noise": "seeded"}}, client_optimizer=far)


@pytest.mark.slow
@pytest.mark.parametrize("key", [{"keep_best": True}, {"stop_at": {"accuracy": 0.5}}])
def test_rounds_are_not_chosen_by_training_images(project: Path, key: dict[str, Any]) -> None:
    test_train.validate_on(50)
    with pytest.raises(PipelineError, match=r"by validation samples, which are training images.*selection' to test"):
        trained(**SECRET, **key, selection="validation")
    rounds, _ = trained(**SECRET, **key, selection="test")
    assert rounds["validation_accuracy"].isna().all()
