"""How far a retraining has come, as seen from the pipeline, the DVC cache and the model registry.

All that is written down about it is that one was begun and has not ended, and where the time limit ended its training.
What it trained and decided is seen from the rest, but not whether it got to report that.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import layout
from fedpipe import params
from fedpipe.atomic import write_text
from fedpipe.datasets.pool import Entry, Pool
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import PipelineError
from layout import EVALUATION, RAW, TRAINING, WEIGHTS
from operations import commands
from operations.promote.decision import Decision

DECISION = Path("reports/promotion.json")
_UNFINISHED = layout.LOGS / "retrain/unfinished"  # holds the checkpoint at which the time limit ended the training
_CHECKPOINTS = layout.stage_logs("train") / "checkpoints"


def begin() -> None:
    """Notes that there is something to do; `end` takes that back."""
    if not is_unfinished():
        write_text(_UNFINISHED, "")


def require_progress() -> None:
    """Notes how far a training is that the time limit ended.

    Raises:
      PipelineError: No further than when the limit ended it the last time.
    """
    newest = max((path.name for path in _CHECKPOINTS.glob("round-*.safetensors")), default="no checkpoint")
    if is_unfinished() and _UNFINISHED.read_text(encoding="utf-8") == newest:
        raise PipelineError(
            f"two retrainings in turn came to the time limit with the same state ({newest}): raise the limit "
            "(--minutes, FEDPIPE_MINUTES, and the workflow's timeout-minutes), or make rounds shorter; "
            "'train.checkpoint.enabled' has to be true"
        )
    write_text(_UNFINISHED, newest)


def is_unfinished() -> bool:
    """Whether a retraining has begun and not ended: it failed, or was stopped."""
    return _UNFINISHED.exists()


def end() -> None:
    """Notes that all is done and reported."""
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


def restore(changes: dict[str, Any]) -> bool:
    """Brings back outputs that are not in the folder, from the cache or else the remote, as far as they are there.

    Args:
      changes: What `status` returned.

    Returns:
      Whether anything was tried.
    """
    missing = [path for path in _outputs(changes) if not Path(path).exists()]
    cached = [path for path in missing if _outputs(changes)[path] == "deleted"]
    elsewhere = [path for path in missing if path not in cached] if default_remote() else []
    if cached:
        commands.dvc("checkout", "--allow-missing", *cached)
    if elsewhere:
        commands.dvc("pull", "--allow-missing", *elsewhere)
    return bool(cached or elsewhere)


def _outputs(status_of_stages: dict[str, Any]) -> dict[str, str]:
    """Each changed output and its fault."""
    return {
        path: matter
        for changes in status_of_stages.values()
        for change in changes
        if isinstance(change, dict)
        for path, matter in change.get("changed outs", {}).items()
    }


def require_batches(entries: Sequence[Entry]) -> None:
    """Checks, before anything is trained, that the batches are here. (`restore` brought back what it could.)

    Raises:
      PipelineError: Some are not; the message names them.
    """
    ours = Pool(layout.POOL)
    missing = [entry.batch for entry in entries if not ours.batch_path(entry.batch).is_file()]
    if missing:
        raise PipelineError(
            f"{ours.ledger} names batches whose samples are neither here, nor in DVC's cache, nor in a DVC remote: "
            f"{', '.join(missing)}; leave the same batches in data/incoming/ (or FEDPIPE_INCOMING) once more, or "
            "bring them from the machine or artifact that has them"
        )


def trained_weights() -> str:
    """SHA-256 of the weights that the pipeline trained last."""
    return json.loads(TRAINING.read_text(encoding="utf-8"))["weights_sha256"]


def test_accuracy() -> float:
    """Test accuracy of these weights."""
    return float(json.loads(EVALUATION.read_text(encoding="utf-8"))["test"]["accuracy"])


def is_champion(dataset: RawDataset) -> bool:
    """Whether the present weights are the champion.

    Raises:
      PipelineError: MLflow cannot be reached.
    """
    champion = layout.registry().champion(dataset.name)
    return champion is not None and champion.weights_sha256 == trained_weights()


def judgement(dataset: RawDataset) -> str:
    """What weights are judged by now: the champion, the rules and the test images (`champions.judgement`).

    Raises:
      PipelineError: MLflow cannot be reached.
    """
    from fedpipe.tracking import champions

    champion = layout.registry().champion(dataset.name)
    rules = params.load(params.Promote, layout.PARAMS).rules()
    return champions.judgement(champion.number if champion else None, rules, dataset.test_sha256(RAW))


def judged(dataset: RawDataset) -> str | None:
    """The present weights in words, if they are the champion, or were judged as they would be judged now.

    Args:
      dataset: The data set.

    Raises:
      PipelineError: MLflow cannot be reached.
    """
    if not (TRAINING.is_file() and WEIGHTS.is_file()):
        return None
    from fedpipe.tracking import champions

    version = layout.registry().version_of_weights(dataset.name, trained_weights())
    if version and (is_champion(dataset) or version.tags.get(champions.JUDGED_TAG) == judgement(dataset)):
        return str(version)
    decision = read_decision()
    if decision and decision.judged_by == judgement(dataset):
        return decision.unregistered
    return None


def read_decision() -> Decision | None:
    """What `make retrain` decided on the present weights; None if it did not.

    Raises:
      PipelineError: Its file cannot be read.
    """
    if not (DECISION.is_file() and TRAINING.is_file()):
        return None
    decision = Decision.parse(DECISION.read_text(encoding="utf-8"))
    is_of_these = decision.challenger is not None and decision.challenger.weights_sha256 == trained_weights()
    return decision if is_of_these else None
