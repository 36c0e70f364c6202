"""The outcome that `make retrain` writes, read from what its steps left."""

import json
from pathlib import Path

import pytest

import layout
from fedpipe.datasets.pool import Entry
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import PipelineError
from operations.promote.decision import Contender, Decision
from operations.retrain import conclusion, state
from operations.retrain.last_run import ARTIFACT

CHAMPION = Contender(1, "run", "ab" * 32, accuracy=0.7)
TRAINED = Contender(None, None, "cd" * 32, accuracy=0.8)
NEW = [Entry(version=1, dataset="mnist", batch="week-1", samples=3, sha256="ef" * 32)]


@pytest.fixture
def dataset(tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch) -> RawDataset:
    """A folder with what the steps leave, in which the test stands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.delenv("FEDPIPE_EXPERIMENT", raising=False)
    monkeypatch.setattr(state, "default_remote", lambda: None)
    monkeypatch.setattr(state, "is_champion", lambda _: False)
    for path, text in {
        layout.TRAINING: json.dumps({"weights_sha256": "cd" * 32}),
        layout.EVALUATION: json.dumps({"test": {"accuracy": 0.8}}),
        Path("data/rejected/broken.reason.txt"): "too small\n",
        Path("data/held/odd.reason.txt"): "drift\n",
        Path("reports/drift.json"): json.dumps(
            {"batches": [{"name": "week-1 (version 1)", "findings": ["it is dark"]}]}
        ),
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return RawDataset.read(raw)


def decided(outcome: str) -> Decision:
    return Decision("fedpipe-mnist", None, outcome, "the reason", TRAINED, CHAMPION, 1)


@pytest.mark.parametrize("outcome", ["proposed", "kept"])
def test_a_decision_with_all_that_others_report(dataset: RawDataset, outcome: str) -> None:
    written = conclusion.of_decision(dataset, decided(outcome), NEW)
    assert (written.dataset, written.status, written.reason, written.version) == ("mnist", outcome, "the reason", None)
    assert (written.accuracy, written.champion_accuracy, written.weights_sha256) == (0.8, 0.7, "cd" * 32)
    assert (written.held, written.rejected) == ({"odd": "drift"}, {"broken": "too small"})
    assert written.drifted == ["week-1 (version 1): it is dark"] and written.new_batches == ["week-1"]


def test_batches_without_a_remote_are_warned_of(dataset: RawDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "on this machine only" in conclusion.warnings()[0]
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    (warning,) = conclusion.of_decision(dataset, decided("kept"), []).warnings
    assert f"are in the artifact {ARTIFACT} only, which GitHub deletes on 20" in warning
    monkeypatch.setattr(state, "default_remote", lambda: "shared")
    assert conclusion.warnings() == []


def test_an_experiment_says_so(dataset: RawDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDPIPE_EXPERIMENT", "main-7")
    assert conclusion.of_decision(dataset, decided("proposed"), []).reason.startswith("an experiment, which is not")


def test_nobody_resumes_an_experiment_of_a_workflow(dataset: RawDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    assert conclusion.unfinished(dataset, 150, []).reason.endswith(
        "150 minutes came before the end; the next run resumes"
    )
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("FEDPIPE_EXPERIMENT", "main-7")
    written = conclusion.unfinished(dataset, 150, [])
    assert "resumes" not in written.reason and "start it anew with a higher limit" in written.reason


def test_secret_noise_leaves_nothing_of_batches(dataset: RawDataset) -> None:
    layout.TRAINING.write_text(json.dumps({"weights_sha256": "cd" * 32, "noise": "secret"}))
    written = conclusion.of_decision(dataset, decided("kept"), NEW)
    assert not (written.held or written.rejected or written.drifted or written.new_batches)


def test_a_failure_has_its_reason(dataset: RawDataset) -> None:
    written = conclusion.failed(PipelineError("dvc failed"))
    assert (written.status, written.dataset, written.reason, written.held) == (
        "failed",
        "",
        "dvc failed",
        {"odd": "drift"},
    )
    conclusion.of_decision(dataset, decided("proposed"), NEW).write()
    written = conclusion.failed(PipelineError("dvc push failed"))
    assert (written.status, written.reason, written.accuracy, written.new_batches) == (
        "failed",
        "dvc push failed",
        0.8,
        ["week-1"],
    )
