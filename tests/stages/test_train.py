"""Test accuracy per round, where training stops, the best weights: as `evaluate` would say of the same weights."""

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML
from safetensors.numpy import load_file

import layout
from fedpipe.config.train import Train
from fedpipe.datasets.raw import RawDataset
from fedpipe.datasets.shards import Manifest, read_shard, write_shards
from fedpipe.errors import PipelineError
from fedpipe.networks.network import Network
from fedpipe.networks.personal_weights import PersonalModels
from fedpipe.networks.weights import load_weights
from fedpipe.runtime.worker import Worker
from operations.register.checks import require_evaluated
from stages import evaluate, train
from tests import RECIPE, ROOT
from tests.fedpipe.training import train_settings
from tests.small_pipeline import write_no_held_out_clients

SMALL = {
    "model": "logistic_regression",
    "rounds": 5,
    "batch_size": 10,
    "metrics": ["top_3_accuracy"],
    "client_optimizer": {"name": "sgd", "learning_rate": 0.5, "momentum": 0.0},
}


@pytest.fixture
def project(
    make_shards: Callable[[list[int]], Path],
    raw: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    worker: Worker,
) -> Path:
    """A project of six clients, four of which have test samples of their own; all trainings have one worker."""
    monkeypatch.setattr(train, "Worker", lambda log: nullcontext(worker))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDPIPE_TRACKING", "off")
    shutil.copytree(make_shards([20, 30, 10, 40, 25, 15]), layout.CLIENTS)
    (tmp_path / "models").mkdir()
    shutil.copy(ROOT / "models/initial.json", tmp_path / "models")
    layout.RAW.symlink_to(raw)
    tests = [np.arange(10 * size) for size in (1, 2, 0, 3, 0, 1)]
    layout.CLIENT_TESTS.mkdir()
    images, labels = RawDataset.read(raw).read_test(raw)
    digest = Manifest.read(layout.CLIENTS).digest
    write_shards(layout.CLIENT_TESTS, "mnist", images, labels, tests, 10, clients_digest=digest)
    write_no_held_out_clients(tmp_path)
    validate_on(0)
    return tmp_path


def validate_on(samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Makes so many training images that no client has the validation samples, with other labels than test images."""
    images, labels = (array[-samples:] for array in RawDataset.read(layout.RAW).read_train(layout.RAW))
    labels = (labels + 1) % 10
    shutil.rmtree(layout.VALIDATION, ignore_errors=True)
    layout.VALIDATION.mkdir()
    digest = Manifest.read(layout.CLIENTS).digest if samples else None
    parts = [np.arange(samples)] if samples else []
    write_shards(layout.VALIDATION, "mnist", images, labels, parts, 10, clients_digest=digest)
    return images, labels


def trained(**changes: object) -> tuple[pd.DataFrame, dict]:
    """Runs the stage with params.yaml changed, and returns the table of its rounds and its summary."""
    content = YAML(typ="safe").load((RECIPE / "params.yaml").read_text(encoding="utf-8"))
    content["train"] |= SMALL | changes
    content["partition"]["validation"] = Manifest.read(layout.VALIDATION).samples
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(content, file)
    train.main()
    return pd.read_csv(layout.ROUNDS, float_precision="round_trip"), json.loads(layout.TRAINING.read_text())


def test_the_last_round_says_what_evaluate_says(project: Path) -> None:
    rounds, summary = trained(evaluate_every=1, selection="test")
    evaluate.main()
    measured = json.loads(layout.EVALUATION.read_text())["test"]
    last = rounds.iloc[-1]
    assert len(rounds) == summary["rounds"] == 5 and rounds.notna().all(axis=None)
    assert last["test_accuracy"] == measured["accuracy"] and last["test_loss"] == measured["loss"]
    assert last["test_clients_accuracy"] == measured["clients"]["mean"]
    for samples in ("train", "test"):
        assert last[f"{samples}_accuracy"] < last[f"{samples}_top_3_accuracy"] <= 1
    assert summary["train"] == {"loss": last["train_loss"], "accuracy": last["train_accuracy"]}
    assert summary["selected_on"] == "test" and summary["best_test_accuracy"] == rounds["test_accuracy"].max()
    assert summary["best_round"] == rounds["round"][rounds["test_accuracy"].idxmax()]
    assert "rounds_to_target" not in summary
    same = load_file(layout.BEST)  # keep_best is off: those of the last round
    assert all((array == same[name]).all() for name, array in load_file(layout.WEIGHTS).items())


def test_evaluation_changes_no_weights_and_may_be_left_out(project: Path) -> None:
    every, _ = trained(evaluate_every=2)
    assert every["round"][every["test_accuracy"].notna()].tolist() == [2, 4, 5]  # and the last one
    weights = layout.WEIGHTS.read_bytes()
    shutil.rmtree(train.LOGS)
    none, summary = trained(evaluate_every=0)
    assert layout.WEIGHTS.read_bytes() == weights
    assert none.filter(like="test").isna().all(axis=None) and not [name for name in summary if "test" in name]
    pd.testing.assert_series_equal(none["train_loss"], every["train_loss"])


def test_training_stops_at_the_first_round_that_reaches_the_target(project: Path) -> None:
    rounds, summary = trained(evaluate_every=1)
    # Without something to select by there is no best round.
    assert not {"selected_on", "best_round", "best_test_accuracy"} & set(summary)
    accuracies = rounds["test_accuracy"]
    target = float(accuracies[:3].max())
    first = int(rounds["round"][(accuracies >= target).idxmax()])
    shutil.rmtree(train.LOGS)
    stopped, summary = trained(evaluate_every=1, selection="test", stop_at={"accuracy": target}, keep_best=True)
    assert len(stopped) == summary["rounds"] == summary["rounds_to_target"] == first <= 3
    pd.testing.assert_frame_equal(stopped, rounds[:first])
    _, missed = trained(evaluate_every=1, selection="test", stop_at={"accuracy": 1.0})
    assert missed["rounds"] == 5 and missed["rounds_to_target"] is None


def test_the_best_weights_are_kept(project: Path) -> None:
    """At a rate that is too high, the last round is not the best."""
    wild = {"name": "sgd", "learning_rate": 3.0, "momentum": 0.0}
    rounds, summary = trained(evaluate_every=1, selection="test", keep_best=True, rounds=4, client_optimizer=wild)
    assert summary["best_round"] < 4, rounds["test_accuracy"].tolist()
    shutil.copy(layout.BEST, layout.WEIGHTS)
    summary["weights_sha256"] = hashlib.sha256(layout.WEIGHTS.read_bytes()).hexdigest()
    layout.TRAINING.write_text(json.dumps(summary))
    evaluate.main()
    assert json.loads(layout.EVALUATION.read_text())["test"]["accuracy"] == summary["best_test_accuracy"]


def test_rounds_are_chosen_by_the_validation_samples(project: Path) -> None:
    """The best round, and the one that training stops at, are chosen by samples that no client has, not by the test."""
    images, labels = validate_on(40)
    wild = {"name": "sgd", "learning_rate": 3.0, "momentum": 0.0}
    rounds, summary = trained(evaluate_every=1, keep_best=True, client_optimizer=wild)
    on_validation, on_test = (rounds[f"{samples}_accuracy"] for samples in ("validation", "test"))
    assert on_validation.idxmax() != on_test.idxmax()  # else this test shows nothing
    best = int(on_validation.idxmax())
    assert summary["selected_on"] == "validation" and summary["best_round"] == rounds["round"][best]
    assert summary["best_validation_accuracy"] == on_validation[best]
    assert summary["best_test_accuracy"] == on_test[best]
    model, weights = load_weights(layout.BEST)
    assert (model.classifier(weights)(images).argmax(axis=1) == labels).mean() == on_validation[best]

    shutil.rmtree(train.LOGS)
    stopped, summary = trained(
        evaluate_every=1, stop_at={"accuracy": float(on_validation.max())}, client_optimizer=wild
    )
    assert len(stopped) == summary["rounds_to_target"] == rounds["round"][best]
    pd.testing.assert_frame_equal(stopped, rounds[: best + 1])


def test_validation_samples_of_another_partition_are_refused(project: Path) -> None:
    validate_on(40)
    shutil.rmtree(layout.CLIENT_TESTS)
    layout.CLIENT_TESTS.mkdir()
    write_shards(layout.CLIENT_TESTS, "mnist", *RawDataset.read(layout.RAW).read_test(layout.RAW), [], 10)
    manifest = json.loads((layout.VALIDATION / "manifest.json").read_text()) | {"clients_digest": "0" * 64}
    (layout.VALIDATION / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PipelineError, match="data/validation holds samples of another partition"):
        trained(evaluate_every=1)


@pytest.mark.parametrize("changes", [{"stop_at": {"accuracy": 0.9}}, {"keep_best": True}])
def test_what_needs_evaluation_is_refused_without(changes: dict) -> None:
    with pytest.raises(ValueError, match=r"needs rounds with a validation accuracy: set 'train.evaluate_every' to 1"):
        train_settings(evaluate_every=0, **changes)
    assert isinstance(train_settings(evaluate_every=1, **changes), Train)


@pytest.mark.slow
def test_personal_models_go_from_train_to_evaluate(project: Path) -> None:
    """Only an algorithm that has them leaves tensors in the file, names it in the summary, and adds columns."""
    _, summary = trained()
    assert load_file(layout.PERSONAL) == {} and "personal_sha256" not in summary
    evaluate.main()
    assert "test_personal_accuracy" not in pd.read_csv(layout.CLIENT_TABLE)
    _, summary = trained(algorithm="ditto")
    models = load_file(layout.PERSONAL)
    assert list(models.pop("client_model")) == [0, 1, 2, 3, 4, 5]
    assert {len(stacked) for stacked in models.values()} == {6}
    assert summary["personal_sha256"] == hashlib.sha256(layout.PERSONAL.read_bytes()).hexdigest()
    evaluate.main()
    table = pd.read_csv(layout.CLIENT_TABLE)
    assert table["test_personal_accuracy"].notna().tolist() == [
        True,
        True,
        False,
        True,
        False,
        True,
    ]  # who has test samples
    kinds = json.loads(layout.EVALUATION.read_text())["test"]["personalisation"]
    assert list(kinds) == ["global", "personal"] and "by_cluster" not in kinds["personal"]
    assert "cluster_clients" not in summary
    rounds, summary = trained(algorithm="ifca", ifca={"clusters": 3})
    evaluate.main()
    clusters = pd.read_csv(layout.CLIENT_TABLE)["cluster"]
    assert summary["cluster_clients"] == {str(number): int((clusters == number).sum()) for number in range(3)}
    sizes = rounds[[f"cluster_{number}_clients" for number in range(3)]]
    assert (sizes.sum(axis=1) == rounds["clients"]).all() and len(set(clusters)) > 1


@pytest.mark.slow
def test_clients_by_themselves_go_from_train_to_evaluate(project: Path) -> None:
    """All figures are of the clients' own models, and the picture of classes is of the one in the middle."""
    rounds, summary = trained(algorithm="local_only", evaluate_every=1)
    assert summary["global_model"] is False
    evaluate.main()
    test, last = json.loads(layout.EVALUATION.read_text())["test"], rounds.iloc[-1]
    assert (test["loss"], test["accuracy"]) == (last["test_loss"], last["test_accuracy"])
    assert test["clients"]["mean"] == last["test_clients_accuracy"] and "personalisation" not in test
    model, _ = load_weights(layout.WEIGHTS)
    models = PersonalModels.open(layout.PERSONAL, model, 6)
    assert models is not None
    images, labels = RawDataset.read(layout.RAW).read_test(layout.RAW)
    hits = [model.classifier(models.of(client))(images).argmax(axis=1) == labels for client in range(6)]
    accuracies = sorted(each.mean() for each in hits)
    assert test["models"]["mean"] == pytest.approx(np.mean(accuracies)) and test["models"]["worst"] == accuracies[0]
    predictions = pd.read_csv(layout.PREDICTIONS)
    assert (predictions["actual"] == predictions["predicted"]).mean() == accuracies[2]
    table = pd.read_csv(layout.CLIENT_TABLE)
    own = [goodness_on_own(model, models, client) for client in range(6)]
    np.testing.assert_allclose(table["train_accuracy"], own, rtol=0, atol=1e-12)
    with pytest.raises(PipelineError, match="is of a training without a global model"):
        require_evaluated(layout.WEIGHTS, layout.EVALUATION, layout.TRAINING)


def goodness_on_own(model: Network, models: PersonalModels, client: int) -> float:
    images, labels = read_shard(layout.CLIENTS, client)
    return float((model.classifier(models.of(client))(images).argmax(axis=1) == labels).mean())


@pytest.mark.slow
def test_an_asynchronous_training_says_its_time_and_staleness(project: Path) -> None:
    devices = {"seconds_per_sample": 1.0, "spread": 1.0}
    rounds, summary = trained(algorithm="fed_buff", fed_buff={"buffer_size": 2}, availability={"devices": devices})
    assert summary["simulated_hours"] == pytest.approx(rounds["simulated_hours"].sum()) and len(rounds) == 5
    assert summary["staleness_mean"] == rounds["staleness_mean"].mean()  # each round has two updates
    assert summary["staleness_max"] == rounds["staleness_max"].max() > 0
    _, summary = trained(availability={"devices": devices})
    assert summary["simulated_hours"] > 0 and "staleness_max" not in summary
    assert "simulated_hours" not in trained()[1]
