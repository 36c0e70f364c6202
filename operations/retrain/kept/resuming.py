"""Whether a retraining comes back to a training that was stopped, here or in the clone whose state was unpacked."""

from operations.retrain.kept.places import CHECKPOINTS, UNFINISHED


def resumes() -> bool:
    """Whether `dvc repro` resumes the training of an unfinished retraining from a checkpoint.

    Until that training has ended, new batches wait: they would make it another training, which starts with round 1. So
    a training that is longer than a job's limit ends after several jobs.
    """
    return UNFINISHED.exists() and any(CHECKPOINTS.glob("round-*.safetensors"))
