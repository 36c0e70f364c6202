"""One sentence for a person: how the results here compare with those of the last commit, and where to look next."""

import json
from collections.abc import Collection, Mapping
from typing import Any

from fedpipe.tracking.run_events import flat_params
from layout import EVALUATION, PARAMS
from operations import commands

# Of dvc.lock, for each stage its ``work`` (command, code, params and inputs) and the digests of its ``outs``.
Stages = Mapping[str, Mapping[str, Any]]
_SHOWN = 2  # params
_OF_CODE = ("fedpipe", "stages", "libraries.lock")


def sentence(committed: Stages, current: Stages, secret: Collection[str]) -> str:
    """The changes, their effect on the test accuracy, and the command to look at them.

    Args:
      committed: The stages of the last commit.
      current: Those of this folder.
      secret: Stages with secret noise, whose results nobody gets twice.

    Raises:
      PipelineError: As `operations.commands.git`.
    """
    changes = ", ".join(_changes(committed, current))
    is_same = all(stage["outs"] == committed.get(name, {}).get("outs") for name, stage in current.items())
    accuracy = _accuracy(EVALUATION.read_text(encoding="utf-8") if EVALUATION.is_file() else None)
    if is_same:
        shown = f", with test accuracy {accuracy:.4f}" if accuracy is not None else ""
        although = f", although {changes} changed" if changes else ""
        return f"the same bits as the results of the last commit{shown}{although}; look at them with `make report`"
    reason = f", after a change of {changes}" if changes else ""
    if secret:
        reason += f"; secret noise makes the bits of each run its own (stage {', '.join(secret)})"
    effect = _effect(accuracy, _accuracy(commands.committed(EVALUATION)))
    return f'{effect}{reason}; compare with `make report RUNS="HEAD workspace"`'


def _effect(accuracy: float | None, before: float | None) -> str:
    if accuracy is None:
        return "other results than those of the last commit"
    if before is None:
        return f"test accuracy {accuracy:.4f}; the last commit has none"
    return f"test accuracy {accuracy:.4f}, {accuracy - before:+.4f} against the last commit's {before:.4f}"


def _changes(committed: Stages, current: Stages) -> list[str]:
    """Params that have another value, code, and input files, in a few words each."""
    before, now = _params(committed), _params(current)
    # The sections of another choice come and go with it.
    changed = [key for key in now if key in before and now[key] != before[key]] or sorted(set(now) ^ set(before))
    phrases = [f"{key} ({before.get(key, 'none')} to {now.get(key, 'none')})" for key in changed[:_SHOWN]]
    if len(changed) > _SHOWN:
        phrases.append(f"{len(changed) - _SHOWN} more params")
    files = _changed_files(committed, current)
    if any(path.partition("/")[0] in _OF_CODE for path in files):
        phrases.append("code")
    return phrases + [path for path in files if path.partition("/")[0] not in _OF_CODE]


def _params(stages: Stages) -> dict[str, str]:
    values: dict[str, str] = {}
    for stage in stages.values():
        values |= flat_params(stage["work"].get("params", {}).get(str(PARAMS), {}))
    return values


def _changed_files(committed: Stages, current: Stages) -> list[str]:
    """Inputs that no stage writes, with another digest than before."""
    written = {path for stage in current.values() for path in stage["outs"]}
    changed = set()
    for name, stage in current.items():
        before, now = (
            {dep["path"]: dep["md5"] for dep in each.get("work", {}).get("deps", [])}
            for each in (committed.get(name, {}), stage)
        )
        changed |= {path for path in {*before, *now} if before.get(path) != now.get(path)}
    return sorted(changed - written)


def _accuracy(text: str | None) -> float | None:
    """The test accuracy in the text of metrics/evaluation.json; None if there is none."""
    return json.loads(text).get("test", {}).get("accuracy") if text else None
