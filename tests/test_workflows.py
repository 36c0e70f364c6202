"""The workflows: pinned, with least permissions, and nothing in them that a person cannot run."""

import re
from typing import Any

import pytest
from ruamel.yaml import YAML

from operations.retrain.last_run import ARTIFACT, DAYS
from operations.retrain.last_run import FOLDER as STATE
from tests import ROOT

FOLDER = ROOT / ".github/workflows"
OURS = {  # the commands of our own workflows, in this order; a team may add steps, jobs and workflows
    "audit.yml": ["make audit"],
    "ci.yml": ["make check", ".ci/run"],
    "retrain.yml": [
        *("make last-run", "make retrain", "make publish", "make keep-state", "make champion", "make tell"),
        *("make last-run", "make promote", "make keep-state", "make champion", "make tell"),
    ],
    "slow.yml": ["make cluster-env", "make flare-env", "make test-slow"],
}
RETIRED = {"ubuntu-18.04", "ubuntu-20.04", "ubuntu-22.04"}  # gone, or announced to go
# Expressions whose values the team or GitHub chooses, and that are no secret: in a command, others see one in the list
# of processes. What a step or a job left may be a text of anybody.
SAFE = re.compile(r"\s*(github\.(sha|run_id|run_number|run_attempt|repository)|(vars|runner|job)\.[\w.-]+)\s*")
# Started by anybody, with the rights and secrets of the default branch: for workflows without secrets and code only.
TRIGGERS_OF_ANYBODY = {
    "workflow_run": "workflow_run gives secrets to what a workflow of a fork left",
    "issue_comment": "issue_comment gives secrets to whoever comments",
}
SECRETS = re.compile(r"\bsecrets\b\s*[.\[]|toJSON\(\s*secrets\s*\)", re.IGNORECASE)
# A choice between texts that stand in the workflow.
CHOICE = re.compile(r" github\.event_name == '\w+' && !?inputs\.\w+ && '[a-z-]+' \|\| '' ")

NOTIFIER = """
  tell:
    needs: [NEEDS]
    if: failure()
    runs-on: ubuntu-24.04
    permissions:
      issues: write
    steps:
      - run: gh issue comment 1 --body "retraining failed in run ${{ github.run_id }}"
        env:
          GH_TOKEN: ${{ github.token }}
"""
DEPLOY = """
  deploy:
    needs: [NEEDS]
    runs-on: ubuntu-24.04
    environment: production
    permissions:
      contents: read
      id-token: write
    steps:
      - uses: aws-actions/configure-aws-credentials@0123456789012345678901234567890123456789 # v9.9.9
        with:
          role-to-assume: ${{ vars.ROLE }}
      - run: ./deploy.sh
"""


def parsed(text: str) -> dict[str, Any]:
    # YAML 1.2, in which `on` is a word and no boolean, as GitHub reads it.
    return YAML(typ="safe").load(text)


def text_of(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in parsed(text_of(name))["jobs"].values() for step in job.get("steps", [])]


def problems(text: str) -> list[str]:
    """Everything in a workflow that would be unsafe or would stop working, whatever else it does."""
    workflow = parsed(text)
    triggers = set(workflow["on"]) if not isinstance(workflow["on"], str) else {workflow["on"]}
    wrong = [f"unpinned: {use}" for use in re.findall(r"uses: (.*)", text) if not is_pinned(use)]
    wrong += [f"retired runner: {name}" for name in sorted(RETIRED) if re.search(rf"runs-on: .*{name}", text)]
    granted = workflow.get("permissions")
    if not isinstance(granted, dict) or set(granted.values()) - {"read", "none"}:
        wrong.append("the workflow's permissions are not read-only; a job that writes names its own")
    if any(isinstance(job.get("permissions"), str) for job in workflow["jobs"].values()):
        wrong.append("a job's permissions are not listed one by one")
    if "pull_request_target" in triggers:
        wrong.append("pull_request_target gives secrets to the code of forks")
    if SECRETS.search(text) or re.search(r"actions/(checkout|download-artifact)@|gh run download", text):
        wrong += [why for trigger, why in TRIGGERS_OF_ANYBODY.items() if trigger in triggers]
    if re.search(r"toJSON\(\s*secrets\s*\)|secrets:\s*inherit", text, re.IGNORECASE):
        wrong.append("all secrets at once; name those that the step needs")
    if "pull_request" in triggers and SECRETS.search(text):
        wrong.append("secrets in a workflow that runs for pull requests")
    if any(SECRETS.search(str(place.get("env"))) for place in (workflow, *workflow["jobs"].values())):
        wrong.append("a secret in the environment of all steps; give it to the step that needs it")
    for job in workflow["jobs"].values():
        wrong += [why for step in job.get("steps", []) for why in problems_of_step(step)]
    return wrong


def is_pinned(use: str) -> bool:
    if use.startswith("./"):
        return True
    return bool(re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*|docker://.+@sha256:[0-9a-f]{64}", use))


def problems_of_step(step: dict[str, Any]) -> list[str]:
    wrong = []
    if step.get("uses", "").startswith("actions/checkout@") and step.get("with", {}).get("persist-credentials", True):
        wrong.append("checkout leaves its token behind for all later steps")
    for expression in re.findall(r"\$\{\{(.*?)\}\}", step.get("run", "")):
        if not SAFE.fullmatch(expression) and not CHOICE.fullmatch(expression):
            wrong.append(f"a secret or a text of anybody becomes part of a command: {expression}")
    return wrong


ALL = sorted(path.name for path in FOLDER.glob("*.y*ml"))


@pytest.mark.parametrize("name", ALL)
def test_a_workflow_is_pinned_and_gives_nothing_away(name: str) -> None:
    assert problems(text_of(name)) == []


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("job", [NOTIFIER, DEPLOY], ids=["notifier", "deploy"])
def test_a_team_may_add_jobs_with_permissions_environments_and_oidc(name: str, job: str) -> None:
    needed = next(iter(parsed(text_of(name))["jobs"]))
    assert problems(text_of(name).rstrip() + "\n" + job.replace("NEEDS", needed)) == []


SPOILED = {
    "an action by its tag": (r"@[0-9a-f]{40} # v", "@v", "unpinned"),
    "an action without its version": (r"(@[0-9a-f]{40}) # v.*", r"\1", "unpinned"),
    "a retired runner": ("ubuntu-24.04", "ubuntu-22.04", "retired runner"),
    "all permissions": (r"permissions:\n  contents: read", "permissions: write-all", "not read-only"),
    "secrets to forks": ("on:\n", "on:\n  pull_request_target:\n", "code of forks"),
    "a workflow of a fork": ("on:\n", "on:\n  workflow_run:\n    workflows: [ci]\n", "workflow of a fork"),
    "a comment of anybody": ("on:\n", "on:\n  issue_comment:\n", "whoever comments"),
    "all secrets": (r"SET: .*", "SET: ${{ toJSON( secrets ) }}", "all secrets at once"),
    "a secret by another spelling": ("\nenv:\n", "\nenv:\n  KEY: ${{ secrets['KEY'] }}\n", "environment of all steps"),
    "a token for later steps": ("persist-credentials: false", "persist-credentials: true", "leaves its token"),
    "a secret for all steps": ("\nenv:\n", "\nenv:\n  KEY: ${{ secrets.KEY }}\n", "the environment of all steps"),
    "a typed text": (r"run: make (?=\S)", 'run: make "${{ inputs.params }}" ', "becomes part of a command"),
    "a secret in a command": (r"run: make (?=\S)", "run: make A=${{ secrets.A }} ", "becomes part of a command"),
    "what a step left": (r"run: make (?=\S)", "run: make A=${{ steps.a.outputs.b }} ", "becomes part of a command"),
    "what a job left": (r"run: make (?=\S)", "run: make A=${{ needs.a.outputs.b }} ", "becomes part of a command"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_what_must_not_be_is_noticed(case: str) -> None:
    pattern, replacement, reason = SPOILED[case]
    spoiled = re.sub(pattern, replacement, text_of("retrain.yml"), count=1)
    assert spoiled != text_of("retrain.yml")
    assert any(reason in problem for problem in problems(spoiled))


def test_secrets_in_a_workflow_of_pull_requests_are_noticed() -> None:
    spoiled = text_of("ci.yml") + "        env:\n          KEY: ${{ secrets.KEY }}\n"
    assert any("secrets in a workflow that runs for pull requests" in problem for problem in problems(spoiled))


def test_our_workflows_run_the_project_s_own_commands() -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for name, commands in OURS.items():
        run = [" ".join(step["run"].split()[:2]) for step in steps(name) if "run" in step]
        assert [command for command in run if command in commands] == commands, name
        assert {command.removeprefix("make ") for command in commands if command != ".ci/run"} <= set(targets)
    assert (ROOT / ".ci/run").stat().st_mode & 0o111


def test_what_a_run_did_is_kept_also_if_a_step_fails_but_not_an_empty_registry() -> None:
    for job, from_here in (("retrain", "make retrain"), ("promote", "make promote")):
        listed = parsed(text_of("retrain.yml"))["jobs"][job]["steps"]
        names = [step.get("with", {}).get("name") or " ".join(step.get("run", "").split()[:2]) for step in listed]
        place = names.index("retrain-state")
        pack, keep = listed[place - 1 : place + 1]
        assert (
            names.index("make last-run") < names.index(from_here) < place - 1 and names[place - 1] == "make keep-state"
        )
        # A job's time-out counts as cancelled.
        began = f"always() && steps.{job}.outcome != 'skipped'"
        for step in (pack, keep):
            assert step["if"].startswith(f"${{{{ {began}")
            assert ("&& env.FEDPIPE_EXPERIMENT == ''" in step["if"]) == (job == "retrain")
        assert pack["run"].endswith(f"FOLDER={STATE}") and keep["with"]["path"] == str(STATE)
        assert keep["with"]["overwrite"] is True and keep["with"]["name"] == ARTIFACT
        assert keep["with"]["retention-days"] == DAYS


def test_only_the_default_branch_moves_the_champion() -> None:
    jobs = parsed(text_of("retrain.yml"))["jobs"]
    assert "github.ref_name == github.event.repository.default_branch" in jobs["promote"]["if"]
    assert jobs["promote"]["environment"] == "${{ vars.FEDPIPE_ENVIRONMENT }}"
    assert jobs["retrain"]["env"]["FEDPIPE_ENVIRONMENT"] == jobs["promote"]["environment"]
    assert "FEDPIPE_ENVIRONMENT" not in jobs["promote"].get("env", {})
    experiment = jobs["retrain"]["env"]["FEDPIPE_EXPERIMENT"]
    assert "inputs.params != '' || github.ref_name != github.event.repository.default_branch" in experiment


def test_a_run_that_waited_or_is_started_again_works_on_the_newest_commit() -> None:
    """The commit that started it may name a former champion, and following that would take a merge back."""
    checkouts = [step for step in steps("retrain.yml") if step.get("uses", "").startswith("actions/checkout@")]
    assert [step["with"].get("ref") for step in checkouts] == ["${{ github.ref }}"] * 2


def test_a_training_ends_before_its_job_does() -> None:
    job = parsed(text_of("retrain.yml"))["jobs"]["retrain"]
    assert job["env"]["FEDPIPE_MINUTES"] <= job["timeout-minutes"] - 30


def test_a_pull_request_is_checked_once() -> None:
    triggers = parsed(text_of("ci.yml"))["on"]
    assert "pull_request" in triggers and triggers["push"]["branches"] == ["main", "master"]


def test_weekly_workflows_never_overlap() -> None:
    for name in ("audit", "retrain", "slow"):
        workflow = parsed(text_of(f"{name}.yml"))
        minute, hour, *days, weekday = workflow["on"]["schedule"][0]["cron"].split()
        assert 0 <= int(minute) < 60 and 0 <= int(hour) < 24 and days == ["*", "*"] and 0 <= int(weekday) <= 6
        assert "workflow_dispatch" in workflow["on"]
        assert workflow["concurrency"]["cancel-in-progress"] is False


def test_the_slow_proofs_have_what_they_would_be_skipped_without() -> None:
    """Dask and NVIDIA FLARE have locks of their own, and another lock is another environment."""
    caches = [step["with"] for step in steps("slow.yml") if "cache" in step.get("uses", "")]
    assert any({"'cluster.lock'", "'flare.lock'"} <= set(re.findall(r"'[\w.]+'", cache["key"])) for cache in caches)
    timeouts = [job["timeout-minutes"] for job in parsed(text_of("slow.yml"))["jobs"].values()]
    assert all(minutes < 360 for minutes in timeouts)  # after which GitHub ends it without a word
