"""A champion leaves its checkout as a folder, and is champion of another: served, scored, rolled back, trained from."""

import io
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import layout
from fedpipe.errors import PipelineError
from fedpipe.networks.network import network
from fedpipe.networks.spec import ModelSpec
from fedpipe.networks.weights import load_weights, save_weights
from fedpipe.tracking import run_events
from fedpipe.tracking.marker import Marker
from fedpipe.tracking.registry import ACCURACY_TAG, COMMIT_TAG, ORIGIN_TAG, Version
from fedpipe.tracking.version_run import read_run
from operations.champion.__main__ import main
from operations.champion.card import Card, Data
from operations.promote.__main__ import main as promote
from operations.score.__main__ import main as score
from tests import RECIPE
from tests.registry_workspace import Workspace, git

MODEL = network(ModelSpec("mcmahan_2nn", (28, 28, 1), 10))


@pytest.fixture
def checkout(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes another checkout, without data and runs, and enters it."""

    def make(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(empty_database, folder)
        shutil.copy(RECIPE / "params.yaml", folder)
        monkeypatch.chdir(folder)
        for variable in ("MLFLOW_TRACKING_URI", "FEDPIPE_TRACKING"):
            monkeypatch.delenv(variable, raising=False)
        git("init", "--quiet")
        git("add", "params.yaml")
        git("commit", "--quiet", "--message", "a checkout")
        return folder

    return make


def write_champion(folder: Path, seed: int, dataset: str = "mnist") -> Card:
    """What `make champion` leaves, of a model with random weights."""
    folder.mkdir(parents=True)
    save_weights(folder / "weights.safetensors", MODEL, MODEL.first_weights(np.random.default_rng(seed)))
    digest = run_events.sha256(folder / "weights.safetensors")
    card = Card(
        dataset=dataset,
        version=7,
        weights_sha256=digest,
        model="mcmahan_2nn",
        accuracy=0.71,
        metrics={"test/accuracy": 0.71},
        classes=[],
        data=Data(shards_sha256="ab" * 32, test_set_sha256="cd" * 32),
        params={"train.rounds": "10"},
        run="a run",
        commit="0a1b2c3d",
        files={"weights.safetensors": digest},
    )
    (folder / "card.json").write_text(card.json_text())
    return card


def champion() -> Version:
    version = layout.registry().champion("mnist")
    assert version is not None
    return version


def test_a_champion_moves_to_another_checkout(
    workspace: Workspace, checkout: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--if-any"])
    assert not Path("champion").exists() and "no champion for mnist yet" in capsys.readouterr().err
    with pytest.raises(PipelineError, match="fedpipe-mnist has no champion in sqlite"):
        main([])
    accuracy = workspace.register("strong")
    promote([])
    here = champion()
    Path("metrics/classes.csv").write_text("class,recall\n0,0.98\n1,0.5\n")
    layout.registry().client().log_artifact(here.run_id, "metrics/classes.csv", "tables")
    main([])

    card = json.loads(Path("champion/card.json").read_text())
    assert (card["dataset"], card["version"], card["accuracy"]) == ("mnist", 1, accuracy)
    assert card["classes"] == [{"class": "0", "recall": "0.98"}, {"class": "1", "recall": "0.5"}]
    assert card["commit"] == here.tags[COMMIT_TAG] == git("rev-parse", "HEAD")
    assert card["tag"] == "models/mnist/v1" and card["params"]["train.rounds"] == "10"
    files = {str(p.relative_to("champion")): p for p in Path("champion").rglob("*") if p.is_file()}
    assert {name: run_events.sha256(path) for name, path in files.items() if "card." not in name} == card["files"]
    assert "model/MLmodel" in files and card["files"]["weights.safetensors"] == here.weights_sha256
    text = Path("champion/card.md").read_text()
    assert "# fedpipe-mnist version 1\n" in text and "| 0 | 0.98 |" in text and here.weights_sha256 in text

    Path("champion/model/serving.py").write_text("raise SystemExit('of no use here')")
    checkout("elsewhere")
    main([str(workspace.path / "champion")])
    brought = champion()
    assert brought.weights_sha256 == here.weights_sha256 and brought.tags[COMMIT_TAG] == here.tags[COMMIT_TAG]
    assert brought.tags[ORIGIN_TAG] == f"fedpipe-mnist version 1 of {workspace.path / 'champion'}"
    assert float(brought.tags[ACCURACY_TAG]) == accuracy
    run = read_run(layout.registry(), brought)
    assert run.params["train.rounds"] == "10" and run.metrics["test/accuracy"] == accuracy
    assert Marker.read(layout.CHAMPION_MARKER).weights_sha256 == here.weights_sha256

    main([str(workspace.path / "champion")])  # again: nothing new
    assert champion().number == 1 and len(layout.registry().client().search_model_versions()) == 1
    model = layout.registry().kept_model(brought)
    assert "of no use here" not in (model / "serving.py").read_text()
    Path("pngs").mkdir()
    Image.fromarray(np.zeros((28, 28), np.uint8)).save("pngs/a.png")
    score(["pngs"])
    assert Path("predictions.csv").read_text().startswith("file,label,probability,problem\na.png,")
    with pytest.raises(PipelineError, match="is the first champion: there is none before it to go back to"):
        promote(["--rollback"])


def test_the_exports_of_its_weights_go_with_it(workspace: Workspace) -> None:
    workspace.register("strong")
    promote([])
    for name, digest in (("tflite", champion().weights_sha256), ("keras", "ab" * 32)):
        folder = layout.EXPORTS / name
        folder.mkdir(parents=True)
        (folder / "model").write_text("a model")
        about = {"file": "model", "model": "mcmahan_2nn", "input": "", "output": "", "classes": 10, "commit": "0a1b"}
        differences = {"compared": "", "largest_difference": 0.0, "other_labels": 0}
        (folder / "card.json").write_text(
            json.dumps({"format": name, "weights_sha256": digest, **about, **differences})
        )
    main([])
    assert [path.name for path in Path("champion/exports").iterdir()] == ["tflite"]
    assert "exports/tflite/model" in json.loads(Path("champion/card.json").read_text())["files"]


def test_another_champion_is_replaced_only_when_asked(checkout: Callable[[str], Path], tmp_path: Path) -> None:
    first, second = (write_champion(tmp_path / name, seed) for seed, name in enumerate(("first", "second")))
    checkout("here")
    main([str(tmp_path / "first")])
    with pytest.raises(PipelineError, match=r"fedpipe-mnist version 1 .* is champion here, .*second is another model"):
        main([str(tmp_path / "second")])
    assert champion().weights_sha256 == first.weights_sha256
    main(["--replace", str(tmp_path / "second")])
    assert champion().weights_sha256 == second.weights_sha256
    promote(["--rollback"])
    assert champion().weights_sha256 == first.weights_sha256
    assert Marker.read(layout.CHAMPION_MARKER).weights_sha256 == first.weights_sha256
    main(["--replace", str(tmp_path / "second")])
    assert (champion().number, champion().weights_sha256) == (2, second.weights_sha256)


def test_the_champion_that_git_names_is_restored(checkout: Callable[[str], Path], tmp_path: Path) -> None:
    """As where the state of a retraining was lost: nothing is left to commit."""
    card = write_champion(tmp_path / "kept", 1)
    checkout("here")
    layout.CHAMPION_MARKER.parent.mkdir()
    text = Marker(weights_sha256=card.weights_sha256, model="fedpipe-mnist", accuracy=0.71).text()
    layout.CHAMPION_MARKER.write_text(text)
    git("add", "--all", "models")
    git("commit", "--quiet", "--message", "marker")
    with pytest.raises(PipelineError, match=r"restore it with `make champion FROM=\.\.\.`"):
        promote(["--merged"])
    main([str(tmp_path / "kept")])
    assert champion().weights_sha256 == card.weights_sha256 and layout.CHAMPION_MARKER.read_text() == text
    promote(["--merged"])


def test_one_that_was_cut_short_is_finished(
    checkout: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedpipe.tracking.mlflow_store import MlflowStore

    card = write_champion(tmp_path / "first", 1)
    checkout("here")
    with monkeypatch.context() as killed:
        killed.setattr(MlflowStore, "_log_model", lambda *_: sys.exit(9))
        with pytest.raises(SystemExit):
            main([str(tmp_path / "first")])
    main([str(tmp_path / "first")])
    assert champion().weights_sha256 == card.weights_sha256
    (experiment,) = layout.registry().client().search_experiments(filter_string="name = 'fedpipe-mnist'")
    (run,) = layout.registry().client().search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.data.metrics == {"test/accuracy": 0.71}


@pytest.mark.parametrize("way", [pytest.param("moved", marks=pytest.mark.slow), "copied"])
def test_a_state_in_another_folder_is_used_there(checkout: Callable[[str], Path], tmp_path: Path, way: str) -> None:
    """As a colleague unpacks it, or a repository is renamed, or on another runner: nothing of the old place is used."""
    first, second = (write_champion(tmp_path / name, seed) for seed, name in enumerate(("first", "second")))
    other = write_champion(tmp_path / "other", 5, "fashion_mnist")
    old = checkout("old place")
    main([str(tmp_path / "first")])
    main(["--replace", str(tmp_path / "second")])
    main([str(tmp_path / "other")])
    new = checkout("100% new")
    for name in ("mlflow.db", "mlartifacts"):
        (new / name).unlink(missing_ok=True)
        (shutil.copytree if (old / name).is_dir() else shutil.copy)(old / name, new / name)
    if way == "moved":
        shutil.rmtree(old)
    else:  # what is used of the old place shows
        for weights in (old / "mlartifacts").rglob("weights.safetensors"):
            weights.write_bytes(b"of another checkout")
    assert champion().weights_sha256 == second.weights_sha256
    assert run_events.sha256(layout.registry().kept_model(champion()) / "artifacts/weights.safetensors")
    promote(["--rollback"])
    assert run_events.sha256(layout.registry().kept_weights(champion())) == first.weights_sha256
    version = layout.registry().champion("fashion_mnist")
    assert version and run_events.sha256(layout.registry().kept_weights(version)) == other.weights_sha256
    main([])
    assert Card.read(Path("champion/card.json"), "").weights_sha256 == first.weights_sha256
    third = write_champion(tmp_path / "third", 8)
    main(["--replace", str(tmp_path / "third")])
    assert champion().weights_sha256 == third.weights_sha256
    kept = {run_events.sha256(stored) for stored in (new / "mlartifacts").rglob("weights.safetensors")}
    assert kept == {card.weights_sha256 for card in (first, second, third, other)}


def archive(folder: Path, prefix: str = "") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as zipped:
        for path in folder.iterdir():
            zipped.write(path, prefix + path.name)
    return packed.getvalue()


def put_gh(folder: Path, body: str) -> str:
    """A `gh` of the test's own on the PATH."""
    folder.mkdir()
    (folder / "gh").write_text(f"#!{sys.executable}\nimport pathlib, shutil, sys\n{body}\n")
    (folder / "gh").chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_it_comes_from_anywhere(
    checkout: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from operations.champion.fetch import fetched

    card = write_champion(tmp_path / "kept/champion", 1)
    kept = tmp_path / "kept/champion"
    (tmp_path / "a.zip").write_bytes(archive(kept))
    (tmp_path / "b.zip").write_bytes(archive(kept, "champion/"))
    copy = "args = sys.argv; assert args[1:6] == ['run', 'download', '123', '--name', 'champion'], args\n"
    copy += f"shutil.copytree({str(kept)!r}, args[args.index('--dir') + 1])"
    monkeypatch.setenv("PATH", put_gh(tmp_path / "bin", copy))
    checkout("here")
    sources = [kept, tmp_path / "kept", tmp_path / "a.zip", tmp_path / "b.zip", f"file://{kept}", "123"]
    for source in [*map(str, sources), f"file://{tmp_path}/a.zip"]:
        with fetched(source) as (its_card, weights):
            assert its_card == card and load_weights(weights)[0].spec == MODEL.spec


def test_anything_else_is_a_sentence(
    checkout: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept"
    write_champion(kept, 1)
    checkout("here")

    def refused(source: object, message: str) -> None:
        with pytest.raises(PipelineError, match=message):
            main([str(source)])
        assert layout.registry().champion("mnist") is None

    refused("nowhere", "there is no nowhere: FROM should be a folder or .zip that `make champion` wrote")
    refused(tmp_path, f"{tmp_path} has no card.json")
    refused(f"file://{tmp_path}/nothing", "cannot fetch a champion from file://")
    refused("nonsense://a", "cannot fetch a champion from nonsense://a: Protocol not known")
    whole = archive(kept)
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "cut.zip", r"cut\.zip is no whole \.zip of a champion")
    (tmp_path / "damaged.zip").write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    refused(tmp_path / "damaged.zip", r"damaged\.zip is no whole|have the SHA-256|is no card")
    monkeypatch.setenv("PATH", put_gh(tmp_path / "bin", "sys.exit('no valid artifacts found to download')"))
    refused(
        "123",
        "artifact champion of run 123 cannot be downloaded: `gh run download` failed: "
        "no valid artifacts found to download",
    )
    shutil.rmtree(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    refused("123", "artifact champion of run 123 cannot be downloaded: GitHub's command `gh` is not installed")

    text, weights = (kept / "card.json").read_text(), (kept / "weights.safetensors").read_bytes()
    (kept / "weights.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    refused(kept, r"the weights in .*kept have the SHA-256 .*, but its card names")
    (kept / "weights.safetensors").unlink()
    refused(kept, r"weights\.safetensors cannot be read: No such file or directory")
    (kept / "weights.safetensors").write_bytes(b"no weights")
    digest = run_events.sha256(kept / "weights.safetensors")
    (kept / "card.json").write_text(text.replace(json.loads(text)["weights_sha256"], digest))
    refused(kept, "is not a file of weights")
    (kept / "card.json").write_text(text.replace('"mnist"', '"../mnist"'))
    refused(kept, "is no card of a champion")
    with pytest.raises(PipelineError, match="--replace is for bringing a champion here"):
        main(["--replace"])
