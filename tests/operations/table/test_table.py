"""`make table` with real DVC, MLflow and training: docs/tables.md's example, killed, started again, and verified.

Two cells with two seeds each, in a clone of the project.
"""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests import ROOT
from tests.small_pipeline import edit

pytestmark = pytest.mark.slow  # four cells of four stages each, and two verifications

DOCUMENT = (ROOT / "docs/tables.md").read_text(encoding="utf-8")
((PATH, EXAMPLE),) = re.findall(r"`(operations/table/tables/\w+\.yaml)`:\n\n```yaml\n(.*?)^```$", DOCUMENT, re.S | re.M)
CELLS = ["half_0.02_seed1", "half_0.02_seed2", "half_0.1_seed1", "half_0.1_seed2"]
KILLED = CELLS[1]


def environment(raw: Path) -> dict[str, str]:
    dropped = ("PYTHONPATH", "MLFLOW_TRACKING_URI", "FEDPIPE_TRACKING")
    inherited = {name: value for name, value in os.environ.items() if name not in dropped}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return inherited | {"PATH": path, "FEDPIPE_MNIST_SOURCE": str(raw), "FEDPIPE_TRACKING_WAIT": "120"}


def run(folder: Path, raw: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=environment(raw),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
    )


def kill_in_training(folder: Path, raw: Path, log: Path) -> None:
    """Starts the table, and kills it with SIGKILL once the training of `KILLED` has a checkpoint."""
    checkpoints = folder / ".dvc/tmp/tables/cells/rates" / KILLED / "logs/train/checkpoints"
    with log.open("w") as output:
        runner = psutil.Popen(
            [sys.executable, "-m", "operations.table", "rates", "--jobs", "1"],
            cwd=folder,
            env=environment(raw),
            stdout=output,
            stderr=output,
        )
    deadline = time.monotonic() + 240
    while not any(checkpoints.glob("*.safetensors")):
        assert runner.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.01)
    children = [each for each in runner.children(recursive=True) if "fedpipe.tracking" not in each.cmdline()]
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert len(children) >= 2 and not alive, "DVC or the training outlived `make table`"


@pytest.fixture(scope="module")
def project(clone: Callable[[str], Path], raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which the example's table was killed in its second cell and then came to its end."""
    folder = clone("tables")
    # A checkpoint after each round; more rounds, so that there is time for a kill.
    edit(folder, {"    seconds: 10 ": "    seconds: 0 "})
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com"]
    subprocess.run([*git, "commit", "-qam", "save often"], cwd=folder, check=True)
    (folder / PATH).write_text(EXAMPLE.replace("rounds: 6", "rounds: 60"), encoding="utf-8")
    log = tmp_path_factory.mktemp("logs") / "killed.log"
    kill_in_training(folder, raw, log)
    assert f"{CELLS[0]}: 60 rounds, test accuracy 0." in log.read_text()
    done = run(folder, raw, "operations.table", "rates", "--jobs", "1")
    assert done.returncode == 0, done.stdout
    assert "rates: 1 of 4 cells are done" in done.stdout and f"{CELLS[0]}: begins" not in done.stdout
    assert f"{KILLED}: resumes" in done.stdout and f"{CELLS[2]}: begins" in done.stdout
    output = (folder / f".dvc/tmp/tables/cells/rates/{KILLED}.log").read_text()
    assert "train: resumes at round" in output
    return folder


def test_rows_and_curves(project: Path) -> None:
    rows = pd.read_csv(project / "docs/results/rates/runs.csv")
    assert rows["cell"].tolist() == CELLS and (rows["outcome"] == "finished").all() and (rows["rounds"] == 60).all()
    assert rows["rate"].tolist() == [0.02, 0.02, 0.1, 0.1] and (rows["seconds"] > 0).all()
    assert rows["weights_sha256"].str.fullmatch("[0-9a-f]{64}").all() and rows["weights_sha256"].is_unique
    curves = pd.read_csv(project / "docs/results/rates/rounds.csv")
    assert curves.groupby("cell", sort=False)["round"].apply(list).to_dict() == {c: list(range(1, 61)) for c in CELLS}
    last = curves[curves["round"] == 60]["test_accuracy"].tolist()
    assert last == pytest.approx(rows["test_accuracy"].tolist())
    params = json.loads((project / "docs/results/rates/params.json").read_text())
    assert params[CELLS[2]]["train"]["client_optimizer"]["learning_rate"] == 0.1
    assert (params[CELLS[1]]["partition"]["seed"], params[CELLS[1]]["train"]["seed"]) == (2, 2)
    machines = json.loads((project / "docs/results/machines.json").read_text())
    assert set(rows["machine"]) == set(machines)
    assert not any(path.is_dir() for path in (project / ".dvc/tmp/tables/cells/rates").iterdir())


def test_page(project: Path) -> None:
    page = (project / "docs/results.md").read_text()
    section = page[page.index("## Two client rates") :]
    rows = pd.read_csv(project / "docs/results/rates/runs.csv").groupby("rate")["test_accuracy"]
    mean, deviation, ours = 100 * rows.mean()[0.1], 100 * rows.std()[0.1], 100 * (rows.mean()[0.1] - 0.85)
    assert f"| half | 0.1 | {mean:.2f} % ± {deviation:.2f} | 85.0 % | {ours:+.2f} points |" in section
    assert "![Test accuracy per round](results/rates/curves.png)" in section
    assert (project / "docs/results/rates/curves.png").read_bytes().startswith(b"\x89PNG")


def test_each_cell_is_an_experiment_and_one_run(project: Path, raw: Path) -> None:
    names = [f"rates-{cell}" for cell in CELLS]
    listed = run(project, raw, "dvc", "exp", "list", "--name-only").stdout.split()
    assert set(names) <= set(listed)
    shown = run(project, raw, "dvc", "params", "diff", "HEAD", names[2], "--json").stdout
    assert json.loads(shown)["params.yaml"]["train.client_optimizer.learning_rate"]["new"] == 0.1
    with sqlite3.connect(project / "mlflow.db") as store:
        runs = store.execute("select name, status from runs").fetchall()
    assert sorted(runs) == [(f"{name}: logistic_regression iid 20 clients 60 rounds", "FINISHED") for name in names]


def test_what_is_done_is_not_run_again(project: Path, raw: Path) -> None:
    before = (project / "docs/results/rates/runs.csv").read_bytes()
    done = run(project, raw, "operations.table", "rates")
    assert done.returncode == 0 and "4 of 4 cells are done" in done.stdout and "begins" not in done.stdout
    assert (project / "docs/results/rates/runs.csv").read_bytes() == before


def test_verify(project: Path, raw: Path) -> None:
    """The cell that was killed has the bits of one that was not; other bits are said to be others."""
    done = run(project, raw, "operations.table.verify", f"rates/{KILLED}")
    assert done.returncode == 0 and f"verify: rates/{KILLED}: same bits" in done.stdout, done.stdout
    rows, machines = project / "docs/results/rates/runs.csv", project / "docs/results/machines.json"
    text, machine = rows.read_text(), machines.read_text()
    digest = pd.read_csv(rows).set_index("cell")["weights_sha256"][CELLS[2]]
    rows.write_text(text.replace(digest, "0" * 64))
    content = json.loads(machine)
    next(iter(content.values()))["libraries"]["numpy"] = "1.0"
    machines.write_text(json.dumps(content))
    try:
        done = run(project, raw, "operations.table.verify", f"rates/{CELLS[2]}")
    finally:
        rows.write_text(text)
        machines.write_text(machine)
    assert done.returncode == 1
    last = done.stdout.splitlines()[-1]
    assert f"other bits, SHA-256 {digest} where {'0' * 64} is recorded" in last
    assert "libraries.numpy: '1.0' there" in last


def test_changed_code_is_refused(project: Path, raw: Path) -> None:
    (project / "fedpipe/algorithms/mine.py").write_text('"""Nothing yet."""\n')
    try:
        done = run(project, raw, "operations.table", "rates")
    finally:
        (project / "fedpipe/algorithms/mine.py").unlink()
    assert done.returncode == 1
    assert done.stdout.startswith("error: fedpipe/algorithms/mine.py changed since the last commit")
