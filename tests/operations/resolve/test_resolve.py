"""`make resolve` on a real merge with a small pipeline, whose training writes down what it was made with."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fedpipe.datasets.pool import Entry, ledger_text
from tests import RECIPE, ROOT

pytestmark = pytest.mark.slow  # a dozen processes of DVC

PIPELINE = r"""
stages:
  train:
    cmd: >-
      echo "{\"rounds\": $(sed -n 's/^  rounds: \([0-9]*\).*/\1/p' params.yaml),
      \"batches\": $(grep -c mnist data/pool/ledger.csv)}" >metrics/training.json
    deps: [data/pool/ledger.csv]
    params: [train.rounds, train.seed]
    metrics:
      - metrics/training.json: {cache: false}
"""


def run(project: Path, *command: str, code: int = 0) -> str:
    nobody = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "PYTHONPATH": str(ROOT)}
    who = {f"GIT_{who}_{what}": "a@a.a" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(command, cwd=project, env=os.environ | nobody | who, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def dvc(project: Path, *arguments: str) -> str:
    return run(project, sys.executable, "-m", "dvc", *arguments)


def resolve(project: Path, *arguments: str, code: int = 0) -> str:
    return run(project, sys.executable, "-m", "operations.resolve", *arguments, code=code)


def edit(project: Path, path: str, old: str, new: str) -> None:
    text = (project / path).read_text(encoding="utf-8")
    assert old in text
    (project / path).write_text(text.replace(old, new, 1), encoding="utf-8")


def branch(project: Path, name: str, rounds: int, only_here: tuple[str, str], batch: str) -> None:
    """A branch with another number of rounds, a param that only it changes, a batch of its own, and its results."""
    run(project, "git", "switch", "-qc", name, "base")
    edit(project, "params.yaml", "  rounds: 10", f"  rounds: {rounds}")
    edit(project, "params.yaml", *only_here)
    entry = Entry(version=1, dataset="mnist", batch=batch, samples=10, sha256=f"{rounds:064}")
    (project / "data/pool/ledger.csv").write_text(ledger_text([entry]))
    (project / "models/champion.json").write_text(json.dumps({"weights_sha256": name}))
    dvc(project, "repro")
    run(project, "git", "commit", "-qam", name)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commit from which branches start."""
    folder = tmp_path_factory.mktemp("merge")
    for name in ("metrics", "data/pool", "models"):
        (folder / name).mkdir(parents=True)
    shutil.copy(RECIPE / "params.yaml", folder)
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "data/pool/ledger.csv").write_text(ledger_text([]))
    (folder / "models/champion.json").write_text("{}")
    run(folder, "git", "init", "-q", "-b", "base")
    dvc(folder, "init", "-q")
    dvc(folder, "repro")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "base")
    return folder


def test_one_command_from_conflicts_to_a_merge_that_is_ready_to_commit(project: Path) -> None:
    branch(project, "ours", 5, ("  seed: 2024", "  seed: 2025"), "mine")
    branch(project, "theirs", 7, ("epochs: 1", "epochs: 2"), "yours")
    run(project, "git", "switch", "-q", "ours")
    assert "no merge is under way" in resolve(project, code=1)
    run(project, "git", "merge", "theirs", code=1)

    text = (
        "error: data/pool/ledger.csv, dvc.lock, metrics/training.json, models/champion.json, and 1 more have conflicts"
    )
    assert text in run(project, sys.executable, "-m", "operations.check_params", code=1)
    assert "have conflicts of a merge: `make resolve`" in run(project, sys.executable, "-m", "operations.stale", code=1)
    before = run(project, "git", "diff")
    output = resolve(project, code=1)
    assert "train.rounds (ours 5, theirs 7, before 10)" in output and run(project, "git", "diff") == before

    assert "`git commit`" in resolve(project, "--params", "theirs", "--champion", "ours")
    assert json.loads((project / "metrics/training.json").read_text()) == {"rounds": 7, "batches": 2}
    ledger = (project / "data/pool/ledger.csv").read_text().splitlines()
    assert [line.split(",")[:3] for line in ledger[1:]] == [["1", "mnist", "mine"], ["2", "mnist", "yours"]]
    params = (project / "params.yaml").read_text()
    assert "  rounds: 7" in params and "  seed: 2025" in params and "epochs: 2" in params
    assert json.loads((project / "models/champion.json").read_text()) == {"weights_sha256": "ours"}
    assert (project / "provenance.json").is_file()
    resolve(project)  # started again: nothing is in conflict, and nothing runs
    run(project, "git", "commit", "-q", "--no-edit")
    assert run(project, "git", "status", "--porcelain") == "" and "up to date" in dvc(project, "status")


def test_ci_says_that_a_lock_is_stale_and_does_not_fail(project: Path) -> None:
    run(project, "git", "switch", "-q", "base")
    dvc(project, "checkout")
    stale = [sys.executable, "-m", "operations.stale"]
    assert "dvc.lock is of the code and params that are here" in run(project, *stale)
    edit(project, "params.yaml", "  rounds: 10", "  rounds: 8")
    why = "stage train is stale (train.rounds is 8 in params.yaml and was 10)"
    assert why in run(project, *stale)
    output = run(project, "env", "GITHUB_ACTIONS=true", *stale)
    assert (
        output.startswith("::warning file=dvc.lock,title=Results are stale::")
        and why in output
        and output.count("\n") == 1
    )
    run(project, "git", "checkout", "-q", "params.yaml")


def test_code_in_conflict_comes_first(project: Path) -> None:
    for name in ("one", "two"):
        run(project, "git", "switch", "-qc", name, "base")
        edit(project, "params.yaml", "  rounds: 10", f"  rounds: {3 if name == 'one' else 4}")
        (project / "code.py").write_text(name)
        run(project, "git", "add", "code.py")
        run(project, "git", "commit", "-qam", name)
    run(project, "git", "merge", "one", code=1)
    output = resolve(project, "--params", "ours", code=1)
    assert "code.py is in conflict, and results rest on the code: settle that by hand" in output
    run(project, "git", "merge", "--abort")
