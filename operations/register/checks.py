"""Whether the workspace's evaluation is one of the workspace's weights."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedpipe.config import read_yaml
from fedpipe.errors import PipelineError
from fedpipe.tracking.facts import sha256

_LOCK = Path("dvc.lock")
_AGAIN = "run `dvc repro`, then register"


def require_evaluated(weights: Path, evaluation: Path, training: Path) -> None:
    """Compares weights and evaluation with what training and evaluation wrote down about them.

    dvc.lock says from which files the evaluation was made. It is compared with the two files, and with what the stages
    before have written last, so that new shards under an old evaluation are noticed. Whether code or params changed
    since only ``dvc status`` says, which takes longer; the numbers belong to the weights all the same.

    Raises:
      PipelineError: A file is missing or they do not belong together.
    """
    for path in (weights, evaluation, training):
        if not path.is_file():
            raise PipelineError(f"{path} is missing: {_AGAIN}")
    trained = json.loads(training.read_text(encoding="utf-8")).get("weights_sha256")
    if trained != sha256(weights):
        raise PipelineError(f"{weights} is not the model that {training} names: {_AGAIN}")
    stages = _stages()
    evaluated_from = dict(_hashes(stages, "evaluate", "deps"))
    for path, recorded in (
        (weights, evaluated_from.get(str(weights))),
        (evaluation, dict(_hashes(stages, "evaluate", "outs")).get(str(evaluation))),
    ):
        if hashlib.md5(path.read_bytes()).hexdigest() != recorded:
            raise PipelineError(f"{path} is not what {_LOCK} has of the last evaluation: {_AGAIN}")
    for stage in stages:
        for output, made in _hashes(stages, stage, "outs"):
            if evaluated_from.get(output, made) != made:
                raise PipelineError(f"stage {stage} made another {output} after the evaluation: {_AGAIN}")


def _stages() -> dict[str, Any]:
    if not _LOCK.is_file():
        raise PipelineError(f"{_LOCK} is missing, which says what was evaluated: {_AGAIN}")
    return read_yaml(_LOCK).get("stages") or {}


def _hashes(stages: dict[str, Any], stage: str, kind: str) -> Iterator[tuple[str, str]]:
    """Path and MD5 of each of a stage's ``deps`` or ``outs``."""
    for entry in stages.get(stage, {}).get(kind, []):
        yield entry["path"], entry["md5"]
