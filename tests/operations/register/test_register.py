"""Registering for real: MLflow's registry on SQLite, runs that are there, missing, or half there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import layout
from fedpipe.config import read_yaml
from fedpipe.datasets.raw import RawDataset
from fedpipe.dvc_lock import Lock
from fedpipe.errors import PipelineError
from fedpipe.tracking import run_events
from operations.register.__main__ import main
from operations.register.checks import require_evaluated
from tests import ROOT
from tests.registry_workspace import Workspace

WEIGHTS, EVALUATION = Path("models/weights.safetensors"), Path("metrics/evaluation.json")
TRAINING = Path("metrics/training.json")


def test_a_version_says_where_it_comes_from(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert layout.registry().challenger("mnist") is None
    accuracy = workspace.register("strong")
    output = (
        f"register: fedpipe-mnist version 1 is the challenger in sqlite:///{Path.cwd()}/mlflow.db: run the strong one"
    )
    assert f"{output}, test accuracy {accuracy:.4f}" in capsys.readouterr().err
    version = layout.registry().challenger("mnist")
    assert (version.name, version.number) == ("fedpipe-mnist", 1) and layout.registry().champion("mnist") is None
    run = layout.registry().client().get_run(version.run_id)
    assert run.data.tags["fedpipe.weights_sha256"] == version.weights_sha256 == run_events.sha256(WEIGHTS)
    assert version.tags["fedpipe.data_sha256"] == run.data.tags["fedpipe.data_sha256"]
    assert version.tags["fedpipe.test_set_sha256"] == RawDataset.read(Path("data/raw")).test_sha256(Path("data/raw"))
    assert version.tags["fedpipe.commit"] == run.data.tags["mlflow.source.git.commit"]
    assert version.tags["fedpipe.model"] == "baseline_cnn"

    layout.registry().fetch_weights(version, Path("fetched/weights.safetensors"))
    assert Path("fetched/weights.safetensors").read_bytes() == WEIGHTS.read_bytes()


def test_the_same_weights_are_the_same_version(workspace: Workspace) -> None:
    workspace.register("strong")
    main([])
    workspace.register("weak")
    assert layout.registry().challenger("mnist").number == 2
    workspace.register("strong")  # trained again: another run, the same bits
    assert layout.registry().challenger("mnist").number == 1
    assert len(layout.registry().client().search_model_versions("name = 'fedpipe-mnist'")) == 2


def test_fetching_twice_downloads_once(workspace: Workspace) -> None:
    workspace.register("weak")
    version = layout.registry().challenger("mnist")
    path = layout.registry().kept_weights(version)
    Path("mlartifacts").rename("away")
    assert layout.registry().kept_weights(version) == path  # nothing was asked for
    path.write_bytes(b"damaged")
    with pytest.raises(PipelineError, match="the weights of fedpipe-mnist version 1 cannot be fetched from file:"):
        layout.registry().kept_weights(version)


@pytest.mark.slow
def test_a_store_without_the_run_gets_it_from_the_outputs(workspace: Workspace) -> None:
    """Results restored from the DVC cache, a new store: by the real command, with its follower."""
    accuracy = workspace.evaluated("weak", track=False)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FEDPIPE_TRACKING_WAIT": "60"}
    command = [sys.executable, "-m", "operations.register"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run = layout.registry().client().get_run(layout.registry().challenger("mnist").run_id)
    assert run.data.tags["fedpipe.restored"] == "true" and run.data.metrics["test/accuracy"] == accuracy
    assert run.data.params["train.rounds"] == "10" and run.data.params["evaluate.batch_size"] == "1000"


def test_an_evaluation_of_other_weights_is_refused(workspace: Workspace) -> None:
    workspace.evaluated("weak", track=False)
    require_evaluated(WEIGHTS, EVALUATION, TRAINING)

    def refused(message: str) -> None:
        with pytest.raises(PipelineError, match=message) as caught:
            main([])
        assert "run `dvc repro`" in str(caught.value)

    evaluation = EVALUATION.read_bytes()
    EVALUATION.write_bytes(evaluation.replace(b"0.5", b"0.4"))
    refused(r"metrics/evaluation\.json is not what dvc\.lock has of the last evaluation")
    EVALUATION.write_bytes(evaluation)

    lock = Path("dvc.lock").read_text()
    training = TRAINING.read_bytes()
    workspace.evaluated("strong", track=False)
    TRAINING.write_bytes(training)
    refused(r"models/weights\.safetensors is not the model that metrics/training\.json tells of")
    workspace.evaluated("strong", track=False)
    Path("dvc.lock").write_text(lock)  # trained again, not evaluated
    refused(r"models/weights\.safetensors is not what dvc\.lock has of the last evaluation")

    workspace.evaluated("strong", track=False)
    content = read_yaml(Path("dvc.lock"))
    shards = next(out for out in content["stages"]["partition"]["outs"] if out["path"] == "data/clients")
    shards["md5"] = "0" * 32
    YAML(typ="safe").dump(content, Path("dvc.lock"))
    refused("stage partition made another data/clients after the evaluation")

    Path("dvc.lock").unlink()
    refused(r"dvc\.lock is missing")
    EVALUATION.unlink()
    refused(r"metrics/evaluation\.json is missing")


def test_dvc_lock_names_files_as_register_looks_them_up() -> None:
    """The lock that DVC itself wrote, committed in this project."""
    lock = Lock.read(ROOT / "dvc.lock")
    assert {str(WEIGHTS), "data/raw", "data/clients"} <= lock.hashes("evaluate", "deps").keys()
    assert str(EVALUATION) in lock.hashes("evaluate", "outs")


def test_tracking_off_is_refused(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.evaluated("weak", track=False)
    monkeypatch.setenv("FEDPIPE_TRACKING", "off")
    with pytest.raises(PipelineError, match="FEDPIPE_TRACKING=off: the model registry is MLflow's; unset it"):
        main([])


def test_a_version_that_others_made_is_named(workspace: Workspace) -> None:
    client = layout.registry().client()
    client.create_registered_model("fedpipe-mnist")
    client.create_model_version("fedpipe-mnist", "file:///nowhere")
    client.set_registered_model_alias("fedpipe-mnist", "champion", "1")
    with pytest.raises(PipelineError, match="fedpipe-mnist version 1 was not registered by `make register`"):
        layout.registry().champion("mnist")


def test_a_run_whose_delivery_failed_is_said(workspace: Workspace) -> None:
    """The follower (here: none) could not deliver: nothing is registered."""
    workspace.evaluated("weak", track=False)
    with pytest.raises(PipelineError, match=rf"did not take the run of {WEIGHTS} \({layout.TRACKING_LOG} says why\)"):
        main([])
    assert layout.registry().challenger("mnist") is None


def test_edited_params_are_not_registered(workspace: Workspace) -> None:
    """With an empty store, a run of params that were never trained would be made."""
    workspace.evaluated("weak", track=False)
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("rounds: 10", "rounds: 11"))
    message = (
        r"the model cannot be registered, since stage train is stale \(train\.rounds is 11 in params\.yaml and was 10\)"
    )
    with pytest.raises(PipelineError, match=message + ": run `dvc repro`, or undo the change"):
        main([])
    assert not layout.outbox().pending() and layout.registry().challenger("mnist") is None
    Path("params.yaml").write_text(text.replace("accuracy_margin: 0.0", "accuracy_margin: 0.1"))  # of no stage
    require_evaluated(WEIGHTS, EVALUATION, TRAINING)


def test_other_data_under_a_model_is_named(workspace: Workspace) -> None:
    workspace.evaluated("weak", track=False)
    Path("data/raw/train-labels").write_bytes(b"others")
    with pytest.raises(
        PipelineError, match=r"stage download is stale \(data/raw is not what it made\); stage partition"
    ):
        main([])


def test_what_is_only_absent_is_not_stale(workspace: Workspace) -> None:
    workspace.evaluated("weak", track=False)
    Path("data/clients").rename("elsewhere")
    require_evaluated(WEIGHTS, EVALUATION, TRAINING)
