"""How far a retraining has come, as seen from the pipeline, the DVC cache and the model registry.

All that is written down about it is that one was begun and has not ended: what it trained and decided is seen from the
rest, but not whether it got to report that.
"""

import json
from pathlib import Path
from typing import Any

import layout
from fedpipe import params
from fedpipe.atomic import write_text
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import PipelineError
from layout import RAW, TRAINING, WEIGHTS
from operations import commands

_UNFINISHED = layout.LOGS / "retrain/unfinished"


def begin() -> None:
    """Notes that there is something to do; `end` takes that back."""
    write_text(_UNFINISHED, "")


def is_unfinished() -> bool:
    """Whether a retraining has begun and not ended: it failed, or was stopped."""
    return _UNFINISHED.exists()


def end() -> None:
    """Notes that all is done and told."""
    _UNFINISHED.unlink(missing_ok=True)


def status() -> dict[str, Any]:
    """What DVC says has changed, by stage; empty if nothing has."""
    return json.loads(commands.dvc("status", "--json"))


def default_remote() -> str | None:
    """The DVC remote that `dvc push` and `dvc pull` use, if there is one."""
    try:
        return commands.dvc("config", "core.remote").strip() or None
    except PipelineError:
        return None


def restore(found: dict[str, Any]) -> bool:
    """Brings back outputs that are not in the folder, from the cache or else the remote, as far as they are there.

    Args:
      found: What `status` returned.

    Returns:
      Whether anything was tried.
    """
    missing = [path for path in _outputs(found) if not Path(path).exists()]
    cached = [path for path in missing if _outputs(found)[path] == "deleted"]
    elsewhere = [path for path in missing if path not in cached] if default_remote() else []
    if cached:
        commands.dvc("checkout", "--allow-missing", *cached)
    if elsewhere:
        commands.dvc("pull", "--allow-missing", *elsewhere)
    return bool(cached or elsewhere)


def _outputs(found: dict[str, Any]) -> dict[str, str]:
    """Each changed output and what is the matter with it."""
    return {
        path: matter
        for changes in found.values()
        for change in changes
        if isinstance(change, dict)
        for path, matter in change.get("changed outs", {}).items()
    }


def trained_weights() -> str:
    """SHA-256 of the weights that the pipeline trained last."""
    return json.loads(TRAINING.read_text(encoding="utf-8"))["weights_sha256"]


def judged(dataset: RawDataset, promote: bool) -> str | None:
    """Which version of the registered model the present weights are, if they are the challenger and were judged.

    Args:
      dataset: The data set.
      promote: Whether they have to be judged, too, and that against the present champion, by the present rules and
        on the present test images.

    Raises:
      PipelineError: MLflow cannot be reached.
    """
    if not (TRAINING.is_file() and WEIGHTS.is_file()):
        return None
    from fedpipe.tracking import champions

    registry = layout.registry()
    challenger = registry.challenger(dataset.name)
    if challenger is None or challenger.weights_sha256 != trained_weights():
        return None
    if promote:
        champion = registry.champion(dataset.name)
        rules = params.load(params.Promote, layout.PARAMS).model_dump()
        present = champions.judgement(champion.number if champion else None, rules, dataset.test_sha256(RAW))
        if challenger.tags.get(champions.JUDGED_TAG) != present:
            return None
    return str(challenger)
