"""Promotion for real: models trained on MNIST, MLflow's registry on SQLite, processes that meet."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import layout
from fedpipe import params
from fedpipe.datasets.raw import RawDataset
from fedpipe.datasets.shards import Manifest, read_shard, write_shards
from fedpipe.errors import PipelineError
from fedpipe.networks.network import network
from fedpipe.networks.spec import ModelSpec
from fedpipe.networks.weights import save_weights
from fedpipe.seeds import Purpose, generator
from fedpipe.tracking import champions, run_events
from fedpipe.tracking.lock import registry_lock
from fedpipe.tracking.marker import Marker
from operations.promote.__main__ import carry_out, main
from operations.promote.decision import Candidate
from operations.promote.judging import decide
from operations.retrain import state
from tests import ROOT
from tests.fedpipe.tracking.mlflow_project import eventually
from tests.registry_workspace import Workspace, write_raw


def champion() -> int | None:
    version = layout.registry().champion("mnist")
    return version.number if version else None


def challenger() -> Candidate:
    return Candidate.of(layout.registry().challenger("mnist"))


def judged() -> str | None:
    """What `make retrain` sees of the present weights."""
    return state.judged(RawDataset.read(Path("data/raw")))


def promote(*arguments: str) -> dict:
    """Runs the command and returns the decision that it wrote."""
    main([*arguments, "--json", "decision.json"])
    return json.loads(Path("decision.json").read_text())


def test_the_way_of_a_model(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PipelineError, match="fedpipe-mnist has no challenger: `make register` makes one"):
        main([])

    # No champion yet.
    weak = workspace.register("weak")
    assert promote("--dry-run")["outcome"] == "promoted" and champion() is None and judged() is None
    first = promote()
    assert (first["outcome"], first["champion"], first["champion_now"]) == ("promoted", None, 1)
    assert first["challenger"]["accuracy"] == weak and champion() == 1
    with pytest.raises(PipelineError, match="version 1 is the first champion: there is none before it"):
        main(["--rollback"])

    # The challenger is the champion.
    assert promote()["outcome"] == "kept"
    assert "kept: the challenger (version 1) is the champion already" in capsys.readouterr().out

    assert judged() == "fedpipe-mnist version 1"

    # A better one; and it has to be that one.
    strong = workspace.register("strong")
    with pytest.raises(PipelineError, match=r"version 2 has the weights .*…, not abababababab…: somebody"):
        main(["--weights", "ab" * 32])
    assert champion() == 1 and judged() is None
    decision = promote("--weights", state.trained_weights())
    assert strong > weak + 0.1 > 0.3 and champion() == 2 and judged() == "fedpipe-mnist version 2"
    assert [rule["holds"] for rule in decision["rules"]] == [True, True, True] and not decision["notes"]
    figures = decision["champion"]["accuracy"], decision["challenger"]["accuracy"]
    assert figures == (weak, strong)
    output = capsys.readouterr().out
    assert "promoted: version 2 takes the place of version 1: all rules hold" in output
    assert f"holds  accuracy: test accuracy {strong:.4f} is above the champion's {weak:.4f}" in output
    version = layout.registry().client().get_model_version("fedpipe-mnist", "2")
    assert json.loads(version.tags["fedpipe.promotion"]) == decision
    assert "✓ **accuracy**" in version.description and sorted(version.aliases) == ["challenger", "champion"]

    # A tie.
    assert workspace.register("twin") == strong
    tie = promote()
    assert judged() == "fedpipe-mnist version 3"
    assert (tie["outcome"], tie["champion_now"], champion()) == ("kept", 2, 2)
    assert [rule["holds"] for rule in tie["rules"]] == [False, True, True]
    assert tie["reason"] == "version 2 stays champion: version 3 fails accuracy"
    version = layout.registry().client().get_model_version("fedpipe-mnist", "3")
    assert version.aliases == ["challenger"] and "✗ **accuracy**" in version.description

    # Other rules: not judged by them. Whether the rules are for a merge does not matter.
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("accuracy_margin: 0.0", "accuracy_margin: 0.001"))
    assert judged() is None
    Path("params.yaml").write_text(text.replace("when: merged", "when: at_once"))
    assert judged() == "fedpipe-mnist version 3"
    Path("params.yaml").write_text(text)

    # A worse one: version 1 is registered again, as what it was.
    workspace.register("weak")
    worse = promote()
    assert worse["challenger"]["version"] == 1 and worse["outcome"] == "kept"
    assert [rule["holds"] for rule in worse["rules"]] == [False, False, False]


@pytest.mark.slow
def test_back_and_not_again(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    text = Path("params.yaml").read_text().replace("accuracy_margin: 0.0", "accuracy_margin: 0.5")
    Path("params.yaml").write_text(text)
    for model in ("weak", "strong", "twin"):
        workspace.register(model)
        assert promote()["outcome"] == "promoted"
    back = promote("--rollback")
    assert (back["outcome"], back["champion"]["version"], back["champion_now"], champion()) == ("rolled_back", 3, 2, 2)
    assert "rolled back: version 2 is champion again in place of version 3" in capsys.readouterr().out
    assert layout.registry().version("mnist", 3).tags[champions.ROLLED_BACK_TAG] == "to 2"
    assert "rolled back" in layout.registry().client().get_model_version("fedpipe-mnist", "3").description

    kept = promote()
    assert (kept["outcome"], champion()) == ("kept", 2)
    assert kept["reason"] == "version 3 was rolled back; --again lets it try once more"
    assert judged() == "fedpipe-mnist version 3"  # nothing was measured, and yet it needs no other look
    workspace.register("twin")  # registering it once more does not wash it clean
    assert promote()["outcome"] == "kept"

    assert promote("--again")["outcome"] == "promoted" and champion() == 3
    assert champions.ROLLED_BACK_TAG not in layout.registry().version("mnist", 3).tags
    assert [promote("--rollback")["champion_now"] for _ in range(2)] == [2, 1]
    with pytest.raises(PipelineError, match="there is none before it to go back to"):
        main(["--rollback"])
    assert champion() == 1


@pytest.mark.slow
def test_a_rollback_passes_over_what_was_deleted(workspace: Workspace) -> None:
    text = Path("params.yaml").read_text().replace("accuracy_margin: 0.0", "accuracy_margin: 0.5")
    Path("params.yaml").write_text(text)
    for model in ("weak", "strong", "twin"):
        workspace.register(model)
        main([])
    layout.registry().client().delete_model_version("fedpipe-mnist", "2")
    assert promote("--rollback")["champion_now"] == 1


@pytest.mark.slow
def test_other_test_images_are_said(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    workspace.register("weak")
    main([])
    raw = Path("data/raw")
    described = RawDataset.read(raw)
    train, test = described.read_train(raw), described.read_test(raw)
    for file in raw.iterdir():
        file.unlink()
    raw.rmdir()
    write_raw(raw, train, tuple(part[:500] for part in test))
    workspace.register("strong")
    decision = promote()
    assert decision["outcome"] == "promoted"
    assert decision["test_set_sha256"] == RawDataset.read(raw).test_sha256(raw)
    note = "note   version 1 was registered with other test images; both were measured on the present ones"
    assert note in capsys.readouterr().out


@pytest.mark.slow
def test_another_kind_of_image_is_refused(workspace: Workspace) -> None:
    """A champion of colour images under the same name: its weights are put into the registry by hand."""
    workspace.register("weak")
    model = network(ModelSpec("baseline_cnn", (32, 32, 3), 10))
    stranger = Path("stranger.safetensors")
    save_weights(stranger, model, model.first_weights(generator(1, Purpose.INITIAL_WEIGHTS)))
    kept = layout.registry().kept_weights(layout.registry().challenger("mnist"))
    stranger.replace(kept)
    sha = run_events.sha256(kept)
    layout.registry().client().set_model_version_tag("fedpipe-mnist", "1", "fedpipe.weights_sha256", sha)
    kept.rename(kept.with_name(f"{sha}.safetensors"))
    layout.registry().client().set_registered_model_alias("fedpipe-mnist", "champion", "1")
    workspace.register("strong")
    expected = r"version 1 takes images \(32, 32, 3\) of 10 classes, but data/raw holds images \(28, 28, 1\) of 10"
    with pytest.raises(PipelineError, match=expected):
        main([])
    assert champion() == 1


def test_without_data_it_says_what_is_missing(workspace: Workspace) -> None:
    workspace.register("weak")
    Path("data/raw").rename("elsewhere")
    with pytest.raises(PipelineError, match=r"data/raw/dataset\.json is missing: run the download stage"):
        main([])
    Path("elsewhere").rename("data/raw")
    Path("data/clients").rename("elsewhere")
    with pytest.raises(PipelineError, match=r"data/clients/manifest\.json is missing: run the partition stage"):
        main([])
    assert champion() is None


def test_changed_weights_are_noticed(workspace: Workspace) -> None:
    workspace.register("weak")
    (stored,) = Path("mlartifacts").rglob("models/*/artifacts/**/weights.safetensors")
    content = bytearray(stored.read_bytes())
    content[-1] ^= 1
    stored.write_bytes(content)
    with pytest.raises(PipelineError, match=r"weights of fedpipe-mnist version 1 in .* were changed"):
        main([])
    assert not list(Path("models/registry").glob("*")) and champion() is None


@pytest.mark.slow
def test_another_machine_was_faster(workspace: Workspace) -> None:
    """What the lock cannot see: the champion moves between the measuring and the moving."""
    workspace.register("weak")
    main([])
    workspace.register("strong")
    settings = params.load(params.Promote, layout.PARAMS)
    decision = decide("mnist", settings, again=False)
    workspace.register("twin")
    main([])
    workspace.register("strong")
    with pytest.raises(PipelineError, match="another machine moved the champion of fedpipe-mnist in the meantime"):
        carry_out(RawDataset.read(Path("data/raw")), settings, decision)
    assert champion() == 3 and judged() is None
    assert champions.DECISION_TAG not in layout.registry().challenger("mnist").tags
    assert promote()["outcome"] == "kept" and judged() == "fedpipe-mnist version 2"


def test_killed_after_the_champion_moved(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Done again, it finds the new champion and is judged."""
    workspace.register("weak")
    monkeypatch.setattr(champions, "record", lambda *_: sys.exit("killed"))
    with pytest.raises(SystemExit):
        main([])
    assert champion() == 1 and champions.JUDGED_TAG not in layout.registry().version("mnist", 1).tags
    assert not layout.CHAMPION_MARKER.exists()
    main([])
    assert champion() == 1 and champions.JUDGED_TAG in layout.registry().version("mnist", 1).tags
    marker = Marker.read(layout.CHAMPION_MARKER)
    assert marker.weights_sha256 == state.trained_weights() and marker.accuracy == state.test_accuracy()


@pytest.mark.slow
def test_two_at_once(workspace: Workspace) -> None:
    """Two processes: the second waits, and finds the first one's champion."""
    workspace.register("weak")
    main([])
    workspace.register("strong")
    command = [sys.executable, "-m", "operations.promote"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    outputs = [Path(f"said{number}") for number in range(2)]
    processes = []
    with registry_lock():
        for path in outputs:
            with path.open("w") as file:
                processes.append(subprocess.Popen(command, env=environment, stdout=file, stderr=file))
        eventually(lambda: all("waiting for another process" in path.read_text() for path in outputs), 120)
        assert champion() == 1
    assert [process.wait(120) for process in processes] == [0, 0]
    texts = sorted(path.read_text().split("\n", 1)[1] for path in outputs)
    assert texts[0] == "kept: the challenger (version 2) is the champion already\n"
    assert "promoted: version 2 takes the place of version 1" in texts[1]
    assert champion() == 2 and layout.registry().registered("mnist").tags["fedpipe.former_champions"] == "[1]"


def test_a_store_that_is_away_is_a_sentence(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@127.0.0.1:9")
    with pytest.raises(PipelineError, match=r"^MLflow at http://127\.0\.0\.1:9 cannot be reached \(Connection refused"):
        main([])


def test_what_a_model_knows_is_counted_on_the_test_images(workspace: Workspace) -> None:
    from operations.promote.measure import Benchmark

    accuracy = workspace.register("strong")
    benchmark = Benchmark.read(300)
    measured = benchmark.measure(challenger())
    assert measured.right.shape == (1000,) and measured.accuracy == accuracy > 0.8
    # Without test samples of the clients' own: recall on the test images, weighted by the client's labels.
    test_labels, shards = benchmark.labels, [read_shard(Path("data/clients"), client)[1] for client in range(4)]
    recall = np.array([measured.right[test_labels == label].mean() for label in range(10)])
    assert measured.worst_client == pytest.approx(min(recall[labels].mean() for labels in shards))
    assert measured.clients_on == "the test images weighted by its labels"

    # With samples that clients hold out, those count: here one client has only images that the model gets wrong.
    images, labels = RawDataset.read(Path("data/raw")).read_test(Path("data/raw"))
    wrong, right = np.flatnonzero(~measured.right)[:3], np.flatnonzero(measured.right)[:3]
    shutil.rmtree("data/client_tests")
    Path("data/client_tests").mkdir()
    digest = Manifest.read(Path("data/clients")).digest
    write_shards(Path("data/client_tests"), "mnist", images, labels, [right, wrong, [], []], 10, clients_digest=digest)
    measured = Benchmark.read(300).measure(challenger())
    assert measured.worst_client == 0 and measured.clients_on == "its own test samples"


def test_skewed_clients_without_test_samples_are_measured_on_their_training_samples(workspace: Workspace) -> None:
    from operations.promote.measure import Benchmark

    workspace.register("strong")
    Path("data/clients/skew.csv").write_text("client\n")
    measured = Benchmark.read(300).measure(challenger())
    assert measured.clients_on == "its training samples" and np.isclose(measured.worst_client * 50 % 1, 0)


def test_secret_noise_leaves_the_clients_unmeasured(workspace: Workspace) -> None:
    from operations.promote.measure import Benchmark

    workspace.register("strong")
    layout.TRAINING.write_text('{"noise": "secret"}')
    measured = Benchmark.read(300).measure(challenger())
    assert measured.worst_client is None and measured.clients_on == "no samples" and measured.accuracy > 0.8


@pytest.mark.slow
def test_nothing_is_promoted_while_a_stage_is_stale(workspace: Workspace) -> None:
    text = Path("params.yaml").read_text()
    for model in ("weak", "strong"):
        workspace.register(model)
        main([])
    workspace.register("twin")
    Path("params.yaml").write_text(text.replace("rounds: 10", "rounds: 11"))
    for arguments in ([], ["--dry-run"]):
        with pytest.raises(
            PipelineError, match=r"^no model can be promoted, since stage train is stale \(train\.rounds is"
        ):
            main(arguments)
    assert champion() == 2
    shutil.rmtree("data")
    main(["--rollback"])  # needs no data, and no results of this folder
    assert champion() == 1
