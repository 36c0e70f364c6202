"""Whether a file of weights is the one that the train stage wrote."""

import hashlib
import json
from pathlib import Path

from fedpipe.datasets.raw import RawDataset
from fedpipe.datasets.shards import Manifest
from fedpipe.errors import PipelineError


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_trained(weights: Path, training: Path) -> str:
    """Compares weights with the SHA-256 that the train stage wrote down.

    Args:
      weights: The file of weights.
      training: metrics/training.json, whose ``weights_sha256`` names them.

    Returns:
      The SHA-256 of the weights.

    Raises:
      PipelineError: One of the two is missing, ``training`` names none, or the weights are others.
    """
    for path in (weights, training):
        if not path.is_file():
            raise PipelineError(f"{path} is missing: run `dvc repro`, which trains or restores it")
    try:
        named = json.loads(training.read_text(encoding="utf-8"))["weights_sha256"]
    except (ValueError, KeyError, TypeError):
        raise PipelineError(f"{training} names no 'weights_sha256': run `dvc repro train`") from None
    present = sha256(weights)
    if present != named:
        raise PipelineError(
            f"{weights} is not the model that {training} tells of (SHA-256 {present[:12]}…, not {str(named)[:12]}…): "
            "run `dvc repro`, which trains or restores it"
        )
    return present


def has_global_model(training: Path) -> bool:
    """Whether the training has a model for all clients, by what it wrote down (``global_model``)."""
    return json.loads(training.read_text(encoding="utf-8")).get("global_model", True) is True


def has_personal(models: Path, training: Path) -> bool:
    """Whether the training ended with personal models, by the SHA-256 that it wrote down (``personal_sha256``).

    Raises:
      PipelineError: It did, and ``models`` is missing or is of another training.
    """
    named = json.loads(training.read_text(encoding="utf-8")).get("personal_sha256")
    if named is None:
        return False
    if not models.is_file():
        raise PipelineError(f"{models} is missing: run `dvc repro`, which trains or restores it")
    present = sha256(models)
    if present != named:
        raise PipelineError(
            f"{models} does not hold the personal models that {training} tells of (SHA-256 {present[:12]}…, not "
            f"{str(named)[:12]}…): run `dvc repro`, which trains or restores them"
        )
    return True


def require_same_data_set(dataset: RawDataset, shards: Manifest, folder: Path, shards_folder: Path) -> None:
    """Checks that a data set is the one that the shards, and so the model, are made from.

    Raises:
      PipelineError: It is another one.
    """
    if (dataset.name, dataset.kind) != (shards.dataset, shards.kind):
        raise PipelineError(
            f"{folder} holds {dataset.name}, {dataset.kind}, but {shards_folder} is made from {shards.dataset}, "
            f"{shards.kind}: run the partition and train stages again (dvc repro)"
        )
