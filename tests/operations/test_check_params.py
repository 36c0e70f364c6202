"""All of params.yaml is checked before anything runs, also where nothing would run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import RECIPE, ROOT


def checked(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "operations.check_params", *arguments]
    return subprocess.run(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )


def test_right_params_are_not_mentioned(tmp_path: Path) -> None:
    shutil.copy(RECIPE / "params.yaml", tmp_path)
    done = checked(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("scheme: contiguous", "scheme: dirichlets", "(did you mean dirichlet?)"),
        ("scheme: contiguous", "scheme: linear", "no such file in fedpipe/partitioners; choose one of"),
        (
            "per_round: all",
            "per_round: 700",
            "'train.clients_per_round' is 700, but there are 600 clients; give a number up",
        ),
        ("evaluate:", "typo: {}\n\nevaluate:", "unknown section 'typo'; allowed: download, partition, train, evaluate"),
        (
            "    level: 0.05",
            "    levle: 0.05",
            "unknown key 'promote.mcnemar.levle' (did you mean level?); ",
        ),
        ("  accuracy_margin: 0.0", "  accuracy_margin: 2", "'promote.accuracy_margin' is 2: should be less than 1"),
    ],
)
def test_what_no_stage_reads_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (RECIPE / "params.yaml").read_text()
    assert old in text
    (tmp_path / "params.yaml").write_text(text.replace(old, new))
    done = checked(tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("error: params.yaml: ") and message in done.stderr
    assert done.stderr.count("\n") == 1


def test_noise_that_follows_from_a_target_is_told_or_refused(tmp_path: Path) -> None:
    text = (RECIPE / "params.yaml").read_text()
    changes = [
        ("aggregator: mean\n", "aggregator: dp_ftrl\n"),
        ("weighting: examples", "weighting: uniform"),
        ("    epsilon:       # a target", "    epsilon: 3.0 # a target"),
        ("noise_multiplier: 1.0\n    restart_every", "noise_multiplier: auto\n    restart_every"),
    ]
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    (tmp_path / "params.yaml").write_text(text)
    done = checked(tmp_path)
    assert done.returncode == 0 and "noise_multiplier' auto is" in done.stderr and done.stderr.count("\n") == 1
    (tmp_path / "params.yaml").write_text(text.replace("epsilon: 3.0", "epsilon: 1.0e-3"))
    done = checked(tmp_path)
    assert done.returncode == 1 and "keeps epsilon at 'train.privacy.epsilon' 0.001" in done.stderr


def test_a_cluster_that_cannot_train_this_is_refused(tmp_path: Path) -> None:
    shutil.copy(RECIPE / "params.yaml", tmp_path)
    (tmp_path / "cluster.yaml").write_text("address: tcp://127.0.0.1:8786\n")
    done = checked(tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "tcp://127.0.0.1:8786 is not protected" in done.stderr


def test_make_repro_checks_before_it_runs() -> None:
    recipe = subprocess.run(["make", "-n", "repro"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert 0 < recipe.index("-m operations.check_params") < recipe.index("dvc repro")


def test_it_takes_no_arguments(tmp_path: Path) -> None:
    done = checked(tmp_path, "other.yaml")
    assert done.returncode == 1 and "`python -m operations.check_params` takes no arguments, but was" in done.stderr
