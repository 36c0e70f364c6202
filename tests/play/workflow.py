"""The jobs of .github/workflows/retrain.yml, run step by step with `make` in fresh shallow clones.

The steps are read from the workflow's file, with the few expressions that it uses. Artifacts and `gh` are those of the
stand-in (tests/github_repository.py); git, DVC, MLflow and TFF are real.
"""

import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedpipe.config import read_yaml
from operations.retrain.outcome import Outcome
from tests import ROOT
from tests.github_repository import GitHub
from tests.small_pipeline import environment

WORKFLOW = read_yaml(ROOT / ".github/workflows/retrain.yml")


@dataclass
class Step:
    """A step that ran: its command, exit code and words."""

    command: str
    code: int
    output: str


@dataclass
class Job:
    """A job that ran."""

    name: str
    run: int
    folder: Path
    steps: list[Step] = field(default_factory=list)
    seconds: float = 0.0
    uploaded: dict[str, int] = field(default_factory=dict)  # bytes of each artifact

    @property
    def succeeded(self) -> bool:
        return all(step.code == 0 for step in self.steps)

    def output_of(self, command: str) -> str:
        """The words of the step whose command begins so."""
        (step,) = [step for step in self.steps if step.command.startswith(command)]
        return step.output

    def outcome(self) -> Outcome:
        return Outcome.read(self.folder / "reports/outcome.json")


class Team:
    """A repository on a stand-in for GitHub, with its workflow; `incoming` is where clients leave batches."""

    def __init__(self, folder: Path, project: Path, raw: Path) -> None:
        self.folder, self.raw = folder, raw
        self.remote, self.incoming = folder / "remote.git", folder / "incoming"
        self.incoming.mkdir(parents=True)
        for command in (
            ["git", "branch", "-M", "main"],
            ["git", "clone", "-q", "--bare", ".", str(self.remote)],
        ):
            subprocess.run(command, cwd=project, check=True)
        self.github = GitHub(folder / "github", self.remote)
        self.variables = {"FEDPIPE_INCOMING": str(self.incoming)}

    def clone(self, name: str, branch: str = "main", depth: int | None = None) -> Path:
        """A clone of the repository, with an environment."""
        folder = self.folder / "clones" / name
        shallow = ["--depth", str(depth)] if depth else []
        command = ["git", "clone", "-q", *shallow, "-b", branch, self.remote.as_uri(), str(folder)]
        subprocess.run(command, check=True)
        (folder / ".venv").symlink_to(sys.prefix)
        return folder

    def make(self, folder: Path, *arguments: str, **variables: str) -> Step:
        """Runs `make` as a person or a workflow does."""
        done = subprocess.run(
            ["make", "--no-print-directory", "-o", "env", *arguments],  # the tests run in the environment
            cwd=folder,
            env=environment(self.raw) | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
            check=False,
        )
        return Step(" ".join(["make", *arguments]), done.returncode, done.stdout)

    def git(self, folder: Path, *arguments: str) -> str:
        command = ["git", "-c", "user.name=person", "-c", "user.email=person@example.com", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def retrain(self, event: str = "schedule", branch: str = "main", **inputs: str) -> Job:
        """Runs the job `retrain`."""
        return self._job("retrain", event, branch, inputs)

    def promote(self, **inputs: str) -> Job:
        """Runs the job `promote`, as GitHub does after a merge that changes models/champion.json."""
        return self._job("promote", "workflow_dispatch" if inputs else "push", "main", inputs)

    def merge(self, number: int) -> Job | None:
        """A person merges a pull request; the job `promote` runs if the merge changes the champion that git names."""
        before = self._marker()
        self.github.merge(number)
        return self.promote() if self._marker() != before else None

    def download(self, folder: Path) -> None:
        """Brings the data set into a clone."""
        command = [str(Path(sys.executable).parent / "dvc"), "repro", "-q", "download"]
        subprocess.run(command, cwd=folder, env=environment(self.raw), check=True)

    def commit_and_push(self, folder: Path, message: str) -> None:
        """What a person changed goes to main."""
        self.git(folder, "add", "-A")
        self.git(folder, "commit", "-qm", message)
        self.git(folder, "push", "-q", "origin", "HEAD:main")

    def marker(self) -> dict[str, Any]:
        """The champion that main names."""
        return dict(json.loads(self._marker()))

    def changed(self, pull: dict[str, Any]) -> list[str]:
        """The files that a pull request changes."""
        ends = f"{pull['baseRefName']}...{pull['headRefName']}"
        return self.git(self.remote, "diff", "--name-only", ends).splitlines()

    def tags(self) -> list[str]:
        """The tags of the repository."""
        return self.git(self.remote, "tag").splitlines()

    def tag(self, name: str) -> str:
        """The commit of a tag."""
        return self.git(self.remote, "rev-parse", f"{name}^{{commit}}")

    def _marker(self) -> str:
        return self.git(self.remote, "show", "main:models/champion.json")

    def _job(self, name: str, event: str, branch: str, inputs: dict[str, str]) -> Job:
        number = self.github.start_run(event, branch)
        job = Job(name, number, self.clone(f"{number}-{name}", branch))
        values = _Values(event, branch, number, inputs, self.variables)
        started = time.monotonic()
        variables = self.github.environment(number, branch) | values.of(WORKFLOW["env"])
        variables |= values.of(WORKFLOW["jobs"][name].get("env", {}))
        variables |= {key: value for key, value in inputs.items() if key.isupper()}
        values.environment = variables
        for step in WORKFLOW["jobs"][name]["steps"]:
            if not values.holds(step.get("if"), job.succeeded):
                continue
            if "run" in step:
                self._run(job, step, variables, values)
            elif step["uses"].startswith("actions/upload-artifact@"):
                self._upload(job, step["with"])
        job.seconds = time.monotonic() - started
        return job

    def _run(self, job: Job, step: dict[str, Any], variables: dict[str, str], values: "_Values") -> None:
        command = values.text(step["run"]).replace("make ", "make -o env ", 1)
        own = {name: value for name, value in variables.items() if name != "GH_TOKEN"} | values.of(step.get("env", {}))
        done = subprocess.run(
            ["bash", "-e", "-c", command],
            cwd=job.folder,
            env=environment(self.raw) | own | {"PATH": variables["PATH"]},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1200,
            check=False,
        )
        job.steps.append(Step(command.replace(" -o env", ""), done.returncode, done.stdout))
        values.outcomes[step.get("id", "")] = "success" if done.returncode == 0 else "failure"

    def _upload(self, job: Job, options: dict[str, Any]) -> None:
        size = self.github.upload(job.run, options["name"], job.folder, str(options["path"]).split())
        if size:
            job.uploaded[options["name"]] = size
        elif options["if-no-files-found"] == "error":
            job.steps.append(Step(f"upload {options['name']}", 1, "no files"))


class _Values:
    """What the workflow's expressions stand for in one job."""

    def __init__(self, event: str, branch: str, run: int, inputs: dict[str, str], variables: dict[str, str]) -> None:
        self.event, self.branch, self.run, self.inputs, self.variables = event, branch, run, inputs, variables
        self.outcomes: dict[str, str] = {}
        self.environment: dict[str, str] = {}
        self.status = "success"

    def of(self, texts: dict[str, Any]) -> dict[str, str]:
        return {name: self.text(str(text)) for name, text in texts.items()}

    def text(self, text: str) -> str:
        return re.sub(r"\$\{\{ (.*?) \}\}", lambda match: self._evaluate(match[1]), text)

    def holds(self, condition: Any, succeeded: bool) -> bool:
        """Whether a step runs."""
        self.status = "success" if succeeded else "failure"
        if condition is None:
            return succeeded
        expression = str(condition).removeprefix("${{").removesuffix("}}").strip()
        parts = [part.strip() for part in expression.split("&&")]
        if not any(part in ("always()", "!cancelled()", "failure()") for part in parts) and not succeeded:
            return False
        return all(self._condition(part) for part in parts)

    def _condition(self, text: str) -> bool:
        if text in ("always()", "!cancelled()"):
            return True
        if text == "failure()":
            return self.status == "failure"
        if match := re.fullmatch(r"steps\.(\w+)\.outcome (==|!=) '(\w+)'", text):
            is_equal = self.outcomes.get(match[1], "skipped") == match[3]
            return is_equal if match[2] == "==" else not is_equal
        if match := re.fullmatch(r"env\.(\w+) (==|!=) '(\w*)'", text):
            is_equal = self.environment.get(match[1], "") == match[3]
            return is_equal if match[2] == "==" else not is_equal
        raise NotImplementedError(f"the play does not know the condition {text}")

    def _evaluate(self, expression: str) -> str:
        is_dispatch = self.event == "workflow_dispatch"
        known = {
            "github.token": "secret",
            "github.ref": f"refs/heads/{self.branch}",
            "job.status": self.status,
            "github.event.repository.default_branch || github.ref_name": "main",
        }
        if expression in known:
            return known[expression]
        if match := re.fullmatch(r"secrets\.\w+", expression):
            return ""
        if match := re.fullmatch(r"vars\.(\w+)", expression):
            return self.variables.get(match[1], "")
        if match := re.fullmatch(r"inputs\.(\w+)", expression):
            return self.inputs.get(match[1], "")
        if expression.startswith("github.event_name == 'workflow_dispatch' && inputs.again"):
            return "--again" if is_dispatch and self.inputs.get("again") else ""
        if expression.endswith("format('{0}-{1}', github.ref_name, github.run_id) || ''"):
            is_experiment = is_dispatch and (self.inputs.get("params") or self.branch != "main")
            return f"{self.branch}-{self.run}" if is_experiment else ""
        raise NotImplementedError(f"the play does not know the expression {expression}")
