"""The copy of a store for the next machine: all runs, the files of the models in use, and what came after what."""

import hashlib
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus

from fedpipe.errors import PipelineError
from fedpipe.tracking import champions
from fedpipe.tracking.mlflow_store import MlflowStore
from fedpipe.tracking.registry import TEST_SET_TAG, Registry
from fedpipe.tracking.run_events import FILES_TAG, WEIGHTS_TAG
from fedpipe.tracking.snapshot import compare, snapshot

VERSIONS = 8


def weights(number: int) -> bytes:
    return f"weights {number}".encode()


def digest(number: int) -> str:
    return hashlib.sha256(weights(number)).hexdigest()


def registry(store: Path) -> Registry:
    return Registry(f"sqlite:///{store}", store.with_name("kept"))


def add_run(store: Path, number: int) -> str:
    """A run with a picture and a model, as delivery leaves one."""
    client = MlflowClient(f"sqlite:///{store}")
    experiment = client.get_experiment_by_name("fedpipe-mnist").experiment_id
    run = client.create_run(experiment, tags={WEIGHTS_TAG: digest(number)}).info.run_id
    client.log_metric(run, "test/accuracy", number / 10)
    client.log_text(run, f"picture {number}", "pictures/confusion.png")
    model = client.create_logged_model(experiment, "model", run)
    client.log_outputs(run, [LoggedModelOutput(model.model_id, step=0)])
    folder = store.with_name("model") / "artifacts"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.safetensors").write_bytes(weights(number))
    client.log_model_artifacts(model.model_id, str(folder.parent))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.set_terminated(run)
    return run


def add_version(store: Path, number: int) -> int:
    """Registers another run; MLflow looks for its model in the store of the current folder."""
    tags = {WEIGHTS_TAG: digest(number), TEST_SET_TAG: "t"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(store.parent)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return registry(store).add_challenger("mnist", add_run(store, number), tags).number


@pytest.fixture(scope="module")
def store(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight versions: 1 to 7 were champion one after the other, 8 is the challenger."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    shutil.copy(empty_database, path)
    client = MlflowClient(f"sqlite:///{path}")
    client.create_experiment("fedpipe-mnist", path.with_name("mlartifacts").as_uri())
    for number in range(1, VERSIONS + 1):
        assert add_version(path, number) == number
        if number < VERSIONS:
            champions.promote(registry(path), "mnist", number, number - 1 or None)
    return path


def unpacked(store: Path, folder: Path, former: int, kept: set[str]) -> Path:
    """The snapshot of ``store`` with its files, in another folder."""
    folder.mkdir()
    for path in snapshot(store, folder / "mlflow.db", former, kept):
        (folder / "mlartifacts" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(store.with_name("mlartifacts") / path, folder / "mlartifacts" / path)
    return folder / "mlflow.db"


def test_models_in_use_have_their_files_and_all_runs_are_there(store: Path, tmp_path: Path) -> None:
    before = hashlib.sha256(store.read_bytes()).hexdigest()
    copy = unpacked(store, tmp_path / "next", 2, {digest(3)})
    assert hashlib.sha256(store.read_bytes()).hexdigest() == before
    theirs = registry(copy)
    present = [n for n in range(1, VERSIONS + 1) if theirs.version("mnist", n)]
    assert present == [3, 5, 6, 7, 8]
    for number in present:
        version = theirs.version("mnist", number)
        assert version is not None and theirs.kept_weights(version).read_bytes() == weights(number)
    files = [path for path in (tmp_path / "next/mlartifacts").rglob("*") if path.is_file()]
    assert len(files) == 2 * len(present)

    client = MlflowClient(f"sqlite:///{copy}")
    runs = client.search_runs([client.get_experiment_by_name("fedpipe-mnist").experiment_id])
    assert {run.data.metrics["test/accuracy"] for run in runs} == {n / 10 for n in range(1, VERSIONS + 1)}
    # Of weights whose files are gone, a new run is made.
    runs_of = {n: MlflowStore(f"sqlite:///{copy}").run_of_weights(digest(n), "fedpipe-mnist") for n in (1, 7)}
    assert runs_of[1] is None and runs_of[7] is not None
    assert len([run for run in runs if FILES_TAG in run.data.tags]) == VERSIONS - len(present)


def test_numbers_are_not_used_again_and_a_rollback_goes_past_what_is_gone(store: Path, tmp_path: Path) -> None:
    copy = unpacked(store, tmp_path / "next", 2, {digest(3)})
    theirs = registry(copy)
    assert add_version(copy, 9) == 9
    assert [champions.step_back(theirs, "mnist")[1].number for _ in range(3)] == [6, 5, 3]
    with pytest.raises(PipelineError, match="version 3 is the first champion"):
        champions.step_back(theirs, "mnist")
    # Weights whose files are gone are trained again: a new version, not the deleted one.
    assert add_version(copy, 1) == 10


def test_a_copy_of_the_copy_loses_nothing_more(store: Path, tmp_path: Path) -> None:
    first = unpacked(store, tmp_path / "first", 2, set())
    registry(first).champion("mnist")  # its artifacts follow it
    second = unpacked(first, tmp_path / "second", 2, set())
    assert [n for n in range(1, 9) if registry(second).version("mnist", n)] == [5, 6, 7, 8]
    assert compare(first, second) == "same"


def test_which_of_two_stores_has_more(store: Path, tmp_path: Path) -> None:
    ours = unpacked(store, tmp_path / "ours", 5, set())
    assert compare(ours, store) == "same"
    add_run(ours, 9)
    assert (compare(store, ours), compare(ours, store)) == ("behind", "ahead")
    add_version(ours, 10)
    theirs = unpacked(store, tmp_path / "theirs", 5, set())
    champions.step_back(registry(theirs), "mnist")
    assert compare(theirs, ours) == compare(ours, theirs) == "apart"  # a rollback here, a version there
    moved = unpacked(store, tmp_path / "moved", 5, set())
    MlflowClient(f"sqlite:///{moved}").set_registered_model_alias("fedpipe-mnist", "champion", "8")
    assert compare(moved, store) == "apart"


def test_no_store_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database" * 100)
    with pytest.raises(PipelineError, match=r"mlflow\.db is no SQLite database: move it away"):
        snapshot(tmp_path / "mlflow.db", tmp_path / "copy.db", 5, set())
