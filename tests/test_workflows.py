"""The workflows: pinned, with least permissions, and nothing in them that a person cannot run."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests import ROOT
from tests.batches import add_npz
from tests.operations.retrain.test_publish import GH
from tests.small_pipeline import SMALL, edit, environment

FOLDER = ROOT / ".github/workflows"
NAMES = ["ci.yml", "retrain.yml", "slow.yml"]
MAKE = {  # the commands of each
    "ci.yml": ["make check", ".ci/run"],
    "retrain.yml": ["make last-run", "make retrain", "make publish"],
    "slow.yml": ["make cluster-env", "make test-slow"],
}


def workflow(name: str) -> dict[str, Any]:
    # YAML 1.2, in which `on` is a word and no boolean, as GitHub reads it.
    return YAML(typ="safe").load((FOLDER / name).read_text(encoding="utf-8"))


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in workflow(name)["jobs"].values() for step in job["steps"]]


def test_these_are_all() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_actions_are_pinned_to_a_commit_and_say_which_version_that_is(name: str) -> None:
    used = re.findall(r"uses: (.*)", (FOLDER / name).read_text(encoding="utf-8"))
    assert len(used) >= 3
    for use in used:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use), use


def test_all_use_the_same_commits() -> None:
    used = {step["uses"] for name in NAMES for step in steps(name) if "uses" in step}
    assert len(used) == len({use.split("@")[0] for use in used})


def test_least_permissions() -> None:
    for name in NAMES:
        assert workflow(name)["permissions"] == {"contents": "read"}
    for name in ("ci.yml", "slow.yml"):
        assert [job.get("permissions") for job in workflow(name)["jobs"].values()] == [None]
    (retrain,) = workflow("retrain.yml")["jobs"].values()
    assert retrain["permissions"] == {"contents": "write", "pull-requests": "write", "actions": "read"}
    for name in NAMES:
        (checkout,) = [step for step in steps(name) if "checkout" in step.get("uses", "")]
        assert checkout["with"] == {"persist-credentials": False}
    with_token = [step["run"] for step in steps("retrain.yml") if "github.token" in str(step)]
    assert with_token == ["make last-run", "make publish"]


def test_what_a_run_did_is_kept_before_anything_else_can_fail_but_not_an_empty_registry() -> None:
    retrain, keep = steps("retrain.yml")[4:6]
    assert retrain["run"].startswith("make retrain") and retrain["id"] == "retrain"
    assert keep["with"]["name"] == "retrain-state" and keep["with"]["overwrite"] is True
    assert keep["if"] == "${{ !cancelled() && steps.retrain.outcome != 'skipped' }}"


def test_when_they_run_and_that_retrainings_never_overlap() -> None:
    assert set(workflow("ci.yml")["on"]) == {"push", "pull_request"}
    assert workflow("ci.yml")["concurrency"]["cancel-in-progress"] is True
    weekly = {"retrain": {"params", "promote"}, "slow": set()}
    for name, inputs in weekly.items():
        told = workflow(f"{name}.yml")
        (schedule,) = told["on"]["schedule"]
        minute, hour, *days, weekday = schedule["cron"].split()
        assert 0 <= int(minute) < 60 and 0 <= int(hour) < 24 and days == ["*", "*"] and 0 <= int(weekday) <= 6
        assert set(told["on"]) == {"schedule", "workflow_dispatch"}
        assert set((told["on"]["workflow_dispatch"] or {"inputs": ()})["inputs"]) == inputs
        assert told["concurrency"] == {"group": name, "cancel-in-progress": False}


def test_the_slow_proofs_have_what_they_would_be_skipped_without() -> None:
    """Dask is in an environment of its own, and another lock is another environment."""
    (cache,) = [step["with"] for step in steps("slow.yml") if "cache" in step.get("uses", "")]
    assert "'cluster.lock'" in cache["key"]
    (job,) = workflow("slow.yml")["jobs"].values()
    assert job["timeout-minutes"] < 360  # after which GitHub ends it without a word


@pytest.mark.parametrize("name", NAMES)
def test_every_step_is_a_command_of_this_project(name: str) -> None:
    commands = [step["run"] for step in steps(name) if "run" in step]
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for command in commands:
        words = command.split()
        assert words == [".ci/run"] or (words[0] == "make" and words[1] in targets), command
        assert len(command.splitlines()) == 1
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
    assert [" ".join(command.split()[:2]) for command in commands] == MAKE[name]


@pytest.mark.parametrize("name", NAMES)
def test_what_somebody_typed_never_becomes_part_of_a_command(name: str) -> None:
    for step in steps(name):
        for expression in re.findall(r"\$\{\{(.*?)\}\}", step.get("run", "")):
            # A value of its own can only be one of two texts that stand here.
            assert re.fullmatch(r" github\.event_name == '\w+' && !inputs\.promote && '[a-z-]+' \|\| '' ", expression)


def test_only_the_step_that_needs_a_secret_has_it() -> None:
    for name in ("ci.yml", "slow.yml"):
        assert "secrets." not in (FOLDER / name).read_text(encoding="utf-8")
    with_secrets = [step["run"].split()[1] for step in steps("retrain.yml") if "secrets." in str(step)]
    assert with_secrets == ["retrain"] and "secrets." not in str(workflow("retrain.yml").get("env"))


@pytest.mark.slow
def test_the_steps_run_in_a_fresh_clone(
    clone: Callable[[str], Path], raw: Path, training_set: tuple, tmp_path: Path
) -> None:
    """As GitHub runs them: new data, then, with what the first run kept, nothing new. Without any secret."""
    folder = clone("workflow")
    edit(folder, SMALL)
    gh = tmp_path / "gh"
    gh.mkdir()
    (gh / "gh").write_text(GH)
    (gh / "gh").chmod(0o755)
    (gh / "login").touch()
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com"]
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "remote")], check=True)
    for command in (
        [*git, "commit", "-qam", "small"],
        ["git", "remote", "add", "origin", str(tmp_path / "remote")],
        ["git", "switch", "-qc", "main"],
    ):
        subprocess.run(command, cwd=folder, check=True)
    (folder / ".venv").symlink_to(sys.prefix)
    ours = environment(raw) | {"GITHUB_STEP_SUMMARY": str(tmp_path / "job.md")}
    ours |= {"PATH": f"{gh}{os.pathsep}{environment(raw)['PATH']}", "GITHUB_REF_NAME": "main"}
    add_npz(tmp_path / "clients", "week-1", training_set[0][:40], training_set[1][:40])
    values = {"inputs.params": "train.rounds=1", "vars.FEDPIPE_INCOMING": str(tmp_path / "clients")}

    def run_all() -> str:
        said = ""
        for step in steps("retrain.yml"):
            if "run" not in step:
                continue
            given = {name: values.get(value.strip("${} "), "") for name, value in step.get("env", {}).items()}
            # -o: the environment stands already, the tests run in it.
            command = re.sub(r"\$\{\{.*?\}\}", "", step["run"]).replace("make ", "make -o env ", 1)
            shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", command]
            done = subprocess.run(
                shell,
                cwd=folder,
                env=ours | given,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=1500,
            )
            assert done.returncode == 0, done.stdout
            said += done.stdout
        return said

    first = run_all()
    assert "starting from nothing" in first and "promoted: version 1" in first and "pull/1" in first
    assert "**promoted**" in (tmp_path / "job.md").read_text() and "week-1" in (tmp_path / "job.md").read_text()
    tip = subprocess.run(
        ["git", "ls-remote", str(tmp_path / "remote"), "refs/heads/retrain/main"], capture_output=True, text=True
    ).stdout.split()[0]
    shown = subprocess.run(["git", "show", f"{tip}:params.yaml"], cwd=folder, capture_output=True, text=True).stdout
    assert "  rounds: 1 " in shown or "  rounds: 1\n" in shown

    kept = (".dvc/cache", "mlflow.db", "mlartifacts")
    subprocess.run(["git", "checkout", "-q", "--force", tip], cwd=folder, check=True)
    excluded = [argument for name in (*kept, ".venv") for argument in ("-e", f"/{name}")]
    subprocess.run(["git", "clean", "-qdfx", *excluded], cwd=folder, check=True)
    assert not (folder / "data/raw").exists() and all((folder / name).exists() for name in kept)
    subprocess.run(["git", "switch", "-qC", "main"], cwd=folder, check=True)
    assert "nothing new and nothing changed" in run_all()
