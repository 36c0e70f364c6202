"""Whether the workspace's evaluation is one of the workspace's weights."""

from pathlib import Path

from fedpipe.dvc_lock import Lock, md5
from fedpipe.errors import PipelineError
from fedpipe.evaluation.identity import has_global_model, require_trained
from layout import LOCK
from operations.stale import require_fresh

_AGAIN = "run `dvc repro`, then register"


def require_evaluated(weights: Path, evaluation: Path, training: Path) -> None:
    """Compares weights and evaluation with what training and evaluation wrote down about them.

    dvc.lock says from which files the evaluation was made. It is compared with the two files, and with what the stages
    before have written last, so that new shards under an old evaluation are noticed. Whether code, params or data
    changed since says ``dvc status``.

    Raises:
      PipelineError: A file is missing, they do not belong together, or a stage is stale.
    """
    for path in (weights, evaluation, training):
        if not path.is_file():
            raise PipelineError(f"{path} is missing: {_AGAIN}")
    require_trained(weights, training)
    if not has_global_model(training):
        raise PipelineError(
            f"{training} is of a training without a global model ('train.algorithm' local_only), and {weights} has its "
            "first weights: register the model of another algorithm"
        )
    lock = Lock.read(LOCK)
    evaluated_from = lock.hashes("evaluate", "deps")
    for path, recorded in (
        (weights, evaluated_from.get(str(weights))),
        (evaluation, lock.hashes("evaluate", "outs").get(str(evaluation))),
    ):
        if md5(path) != recorded:
            raise PipelineError(f"{path} is not what {LOCK} has of the last evaluation: {_AGAIN}")
    for stage in lock.stages:
        for output, made in lock.hashes(stage, "outs").items():
            if evaluated_from.get(output, made) != made:
                raise PipelineError(f"stage {stage} made another {output} after the evaluation: {_AGAIN}")
    require_fresh("the model cannot be registered")
