"""Which results are not of the code, params and data that are here: what ``dvc status`` knows, for commands.

``python -m operations.stale``, or ``make stale``, says it of this folder, without data: what is absent is not stale.
"""

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedpipe import unmerged
from fedpipe.command_line import without_arguments
from fedpipe.errors import PipelineError, run_stage
from fedpipe.tracking.run_events import flatten
from layout import LOCK, PARAMS

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage

# In DVC's words. What is only absent makes no result another one.
_ABSENT = ("deleted", "not in cache")
_SHOWN = 4


@dataclass(frozen=True)
class Stale:
    """A stage whose recorded run had other params, code or data.

    Attributes:
      stage: Its name.
      inputs: What changed of its params, code and data, and its command; each in a few words.
      outputs: Which of its outputs are not those that it made.
    """

    stage: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def __str__(self) -> str:
        changes = [*self.inputs, *(f"{path} is not what it made" for path in self.outputs)]
        more = [f"and {len(changes) - _SHOWN} more"] if len(changes) > _SHOWN else []
        return f"stage {self.stage} is stale ({', '.join([*changes[:_SHOWN], *more])})"


def in_workspace() -> list[Stale]:
    """The stale stages of the workspace, in the order in which DVC runs them.

    Raises:
      PipelineError: The folder is no DVC project, or another DVC process uses it.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            return _stale(repo, repo.status())
    except DvcException as error:
        if files := unmerged.files():
            raise PipelineError(unmerged.sentence(*files)) from None
        raise PipelineError(f"`dvc status`, which says what is stale, failed: {error}") from None


def in_revision(repo: "Repo") -> list[Stale]:
    """The stale stages of a revision that DVC has opened: its params.yaml and code beside its own dvc.lock."""
    status: dict[str, Any] = {}
    for stage in repo.index.stages:  # Repo.status is for the workspace only
        status[stage.addressing] = [
            {"changed deps": _joined(dep.status() for dep in stage.deps)},
            {"changed outs": _joined(out.status() for out in stage.outs)},
            *(["changed checksum"] if stage.changed_stage() else []),
        ]
    return _stale(repo, status)


def require_fresh(what: str) -> None:
    """Refuses to continue where results are older than params, code or data.

    Args:
      what: What cannot be done, such as ``the model cannot be registered``.

    Raises:
      PipelineError: A stage is stale, or as `in_workspace`.
    """
    if stale := in_workspace():
        raise PipelineError(
            f"{what}, since {'; '.join(map(str, stale))}: run `dvc repro`, or undo the change (`git diff` shows it)"
        )


def _joined(statuses: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {path: matter for status in statuses for path, matter in status.items()}


def _stale(repo: "Repo", status: Mapping[str, list[Any]]) -> list[Stale]:
    """What ``status`` (as ``dvc status --json`` prints it) says, without what is only absent."""
    made = {str(out) for stage in repo.index.stages for out in stage.outs}
    stages = {stage.addressing: stage for stage in repo.index.stages}
    stale = []
    for address, changes in status.items():
        inputs: list[str] = []
        outputs: list[str] = []
        for change in changes:
            if not isinstance(change, Mapping):
                inputs.append("its command in dvc.yaml is another one" if change == "changed checksum" else str(change))
                continue
            for path, matter in change.get("changed deps", {}).items():
                if path == PARAMS.name:
                    inputs += _params(stages[address]) or [f"{path} is {matter}"]
                elif not (matter in _ABSENT and path in made):
                    inputs.append(f"{path} is {matter}")
            outputs += [path for path, matter in change.get("changed outs", {}).items() if matter not in _ABSENT]
        if inputs or outputs:
            stale.append(Stale(getattr(stages[address], "name", None) or address, tuple(inputs), tuple(outputs)))
    return stale


def _params(stage: "Stage") -> list[str]:
    """The params of a stage that differ, each in a few words; DVC itself names whole sections only."""
    words = []
    for dep in stage.deps:
        if str(dep) == PARAMS.name:
            recorded, present = flatten(dep.hash_info.value or {}), flatten(dep.read_params())
            words += [
                f"{name} is {present.get(name, 'not')} in {PARAMS} and was {recorded.get(name, 'not recorded')}"
                for name in {**present, **recorded}
                if present.get(name) != recorded.get(name)
            ]
    return words


def main() -> None:
    """Says of which results dvc.lock is not the record any more; never fails for that: new code comes before results.

    In GitHub Actions it is a warning on dvc.lock, which the run's page and the pull request show.
    """
    stale = in_workspace()
    if not stale:
        print(f"{LOCK} is of the code and params that are here", file=sys.stderr)
        return
    text = (
        f"{LOCK} is not of the code and params beside it: {'; '.join(map(str, stale))}. Whoever checks this commit out "
        "recomputes it: run `make repro` and commit the results (docs/merging.md)"
    )
    if os.environ.get("GITHUB_ACTIONS") == "true":
        print(f"::warning file={LOCK},title=Results are stale::{text.replace('%', '%25')}")
    else:
        print(f"warning: {text}", file=sys.stderr)


if __name__ == "__main__":
    run_stage(without_arguments(main, "make stale"))
