"""`make retrain` in a clone, small: from new batches to a champion, killed on the way, and nothing the second time.

One clone for all tests, which go on where the one before stopped.
"""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedpipe.errors import PipelineError
from operations.retrain.__main__ import _words
from operations.retrain.outcome import OUTCOME, Outcome
from tests.batches import add_idx, add_npz
from tests.small_pipeline import SMALL, edit, environment, stages_run

GIT = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com"]


def retrain(folder: Path, raw: Path, *arguments: str, until: str = "", **settings: str) -> tuple[int, str]:
    """Runs it and returns exit code and words; kills it with all that it started when it says ``until``."""
    command = [sys.executable, "-m", "operations.retrain", *arguments]
    running = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(raw) | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    output = ""
    with running:
        for line in running.stdout or ():
            output += line
            if until and until in line:
                os.killpg(running.pid, signal.SIGKILL)
                break
    return running.returncode, output


def remotes(project: Path) -> Path:
    """Beside the clone: a bare git repository, a DVC remote, and the folder in which clients leave batches."""
    return project.parent / "remotes"


@pytest.fixture(scope="module")
def project(clone: Callable[[str], Path], raw: Path, training_set: tuple[np.ndarray, np.ndarray]) -> Path:
    """A clone of small params, with a git remote and a DVC remote, and batches that clients left: one is bad."""
    folder = clone("retrain")
    remote = remotes(folder)
    edit(folder, SMALL)
    subprocess.run(["git", "init", "-q", "--bare", str(remote / "git")], check=True)
    for command in (
        ["dvc", "remote", "add", "--quiet", "--default", "shared", str(remote / "dvc")],
        [*GIT, "commit", "-qam", "small, with a DVC remote"],
        ["git", "remote", "add", "origin", str(remote / "git")],
        ["git", "switch", "-qc", "main"],
        ["git", "push", "-q", "origin", "main"],
    ):
        subprocess.run(command, cwd=folder, env=environment(raw), check=True)
    images, labels = training_set
    ones = np.flatnonzero(labels == 1)[:60]
    add_npz(remote / "clients", "week-1", np.maximum(images[ones], 20), labels[ones])
    add_npz(remote / "clients", "broken", images[:20, 1:], labels[:20])
    add_idx(folder / "data/incoming", "week-2", images[:40, :, :, 0], labels[:40])
    return folder


def test_wrong_params_are_refused_before_anything(project: Path, raw: Path) -> None:
    before = (project / "params.yaml").read_bytes()
    code, output = retrain(project, raw, "--set", "train.rounds=0")
    assert code == 1 and output.startswith("error: with train.rounds=0, params.yaml: 'train.rounds' is 0"), output
    code, output = retrain(project, raw, FEDPIPE_SET="train.init=champion train.rounds=1")
    assert code == 1 and "the model registry has no champion for mnist" in output
    (project / "params.yaml").write_bytes(before)


def test_a_setting_that_cannot_be_read_is_named() -> None:
    with pytest.raises(PipelineError, match=re.escape('SET (or FEDPIPE_SET) "partition.scheme=\'iid" cannot be read')):
        _words("partition.scheme='iid")


@pytest.mark.slow
def test_killed_after_the_comparison_it_still_reports(project: Path, raw: Path) -> None:
    """And trains once. Then the remote fails, which the test below makes up for."""
    remote = remotes(project)
    code, output = retrain(project, raw, until="retrain: report", FEDPIPE_INCOMING=str(remote / "clients"))
    assert code == -signal.SIGKILL and "incoming: broken: rejected" in output, output
    assert stages_run(output)[-3:] == ["partition", "train", "evaluate"]
    assert "proposed: the trained model (" in output and "is the first champion" in output
    ledger = (project / "data/pool/ledger.csv").read_text()
    assert sorted(line.split(",")[2] for line in ledger.splitlines()[1:]) == ["week-1", "week-2"]

    (remote / "dvc").write_text("no folder")
    code, output = retrain(project, raw)
    assert code == 1 and "error: `dvc push --run-cache` failed: ERROR: " in output, output
    assert stages_run(output) == [] and "retrain: compare" not in output
    assert (project / "data/pool/ledger.csv").read_text() == ledger
    summary = (project / "reports/summary.md").read_text()
    for part in ("**proposed**", "| week-1 | ", "- `broken`: `it has images of (27, 28, 1)", "| test/accuracy |"):
        assert part in summary
    assert "its label mix is another one" in summary and "its images are brighter" in summary
    assert (project / "reports/drift.png").read_bytes().startswith(b"\x89PNG")
    assert "<html" in (project / "reports/report.html").read_text()[:500]
    drift = json.loads((project / "reports/drift.json").read_text())
    assert drift["pool_version"] >= 1 and drift["all"]["samples"] == 100 and drift["champion"] is None
    assert drift["all"]["in_training"] == pytest.approx(0.4)
    outcome = Outcome.read(project / OUTCOME)
    assert (outcome.dataset, outcome.status, outcome.version) == ("mnist", "failed", None)
    assert outcome.reason.startswith("`dvc push --run-cache` failed")
    assert sorted(outcome.new_batches) == ["week-1", "week-2"] and list(outcome.rejected) == ["broken"]
    assert any(sentence.startswith("week-1 ") and "brighter" in sentence for sentence in outcome.drifted)
    assert outcome.accuracy == pytest.approx(
        json.loads((project / "metrics/evaluation.json").read_text())["test"]["accuracy"]
    )


@pytest.mark.slow
def test_nothing_new_ends_soon_and_green(project: Path, raw: Path, tmp_path: Path) -> None:
    """But for the push that failed."""
    remote = remotes(project) / "dvc"
    remote.unlink()
    before = (project / "reports/summary.md").read_bytes()
    code, output = retrain(project, raw, GITHUB_STEP_SUMMARY=str(tmp_path / "job.md"))
    assert code == 0
    assert "retrain: nothing new and nothing changed: the weights are the trained model (" in output.splitlines()[-1]
    assert Outcome.read(project / OUTCOME).status == "nothing_new"
    assert "retrain: dvc push to shared" in output and len(list(remote.rglob("*"))) > 10
    assert "dvc repro" not in output and (project / "reports/summary.md").read_bytes() == before
    assert "Nothing new" in (tmp_path / "job.md").read_text() and "- `broken`: " in (tmp_path / "job.md").read_text()


def test_two_at_once_are_refused(project: Path, raw: Path) -> None:
    with (project / "logs/retrain/lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, output = retrain(project, raw)
        elsewhere = subprocess.run(
            [sys.executable, "-m", "operations.incoming"],
            cwd=project,
            env=environment(raw),
            capture_output=True,
            text=True,
        )
    assert code == elsewhere.returncode == 1
    for words in (output, elsewhere.stderr):
        assert words.startswith("error: another retraining runs in this folder"), words


@pytest.mark.slow
def test_published_and_pulled_elsewhere_it_runs_nothing(project: Path, raw: Path, tmp_path: Path) -> None:
    def publish() -> str:
        done = subprocess.run(
            [sys.executable, "-m", "operations.retrain.publish"],
            cwd=project,
            env=environment(raw),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    status = ["git", "status", "--porcelain"]
    before = subprocess.run(status, cwd=project, capture_output=True, check=True).stdout
    assert "publish: retrain/main of origin is " in publish() and "has this on retrain/main already" in publish()
    assert subprocess.run(status, cwd=project, capture_output=True, check=True).stdout == before

    elsewhere = tmp_path / "elsewhere"
    for command, folder in (
        (["git", "clone", "-q", "-b", "retrain/main", str(remotes(project) / "git"), str(elsewhere)], tmp_path),
        (["dvc", "pull", "-q"], elsewhere),
    ):
        subprocess.run(command, cwd=folder, env=environment(raw), check=True)
    repro = subprocess.run(["dvc", "repro"], cwd=elsewhere, env=environment(raw), capture_output=True, text=True)
    assert (
        repro.returncode == 0 and "Data and pipelines are up to date" in repro.stdout and not stages_run(repro.stdout)
    )
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=elsewhere, capture_output=True, text=True).stdout
    assert changed == ""


@pytest.mark.slow
def test_from_the_champions_weights(project: Path, raw: Path, training_set: tuple[np.ndarray, np.ndarray]) -> None:
    """Chosen once for this pool: the next time there is nothing new, though what came of it was promoted."""
    code, output = retrain(project, raw)  # where the tests above did not run
    assert code == 0, output
    publish = [sys.executable, "-m", "operations.retrain.publish"]
    merge = [["git", "fetch", "-q", "origin", "retrain/main"], ["git", "reset", "-q", "--hard", "FETCH_HEAD"]]
    for command in (publish, *merge):
        subprocess.run(command, cwd=project, env=environment(raw), check=True)
    champion = json.loads((project / "metrics/training.json").read_text())
    add_npz(project / "data/incoming", "week-3", training_set[0][100:140], training_set[1][100:140])
    arguments = ("--set", "train.init=champion")
    code, output = retrain(project, raw, *arguments, until="retrain: dvc repro")
    assert code == -signal.SIGKILL and "fedpipe-mnist version 1 is champion now: models/champion.json of HEAD" in output
    assert "retrain: training starts from fedpipe-mnist version 1" in output, output
    assert "train.init=champion" in output
    code, output = retrain(project, raw, *arguments, until="retrain: compare")
    assert code == -signal.SIGKILL and stages_run(output) == ["partition", "train", "evaluate"], output
    code, output = retrain(project, raw, *arguments)
    assert code == 0 and stages_run(output) == [], output
    assert "init: champion" in (project / "params.yaml").read_text()
    pointer = json.loads((project / "models/initial.json").read_text())
    assert (pointer["sha256"], pointer["version"]) == (champion["weights_sha256"], 1)
    trained = json.loads((project / "metrics/training.json").read_text())
    assert trained["train"]["loss"] < champion["train"]["loss"] and re.search(r"^proposed: ", output, re.M)
    drift = json.loads((project / "reports/drift.json").read_text())
    assert drift["champion"]["model"] == "fedpipe-mnist version 1" and drift["all"]["samples"] == 40
    assert 0 < drift["all"]["champion_accuracy"] < 1
    code, output = retrain(project, raw)
    assert code == 0 and "nothing new and nothing changed: the weights are the trained" in output, output
    # A clone whose folder is empty but for the cache gets its outputs from there.
    shutil.rmtree(project / "data/clients")
    (project / "models/weights.safetensors").unlink()
    code, output = retrain(project, raw)
    assert code == 0 and "nothing new and nothing changed" in output, output
