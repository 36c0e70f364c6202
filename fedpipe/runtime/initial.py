"""The weights before the first round: drawn from the seed, or those of a champion.

The champion lives in MLflow's model registry, outside of DVC. So `make retrain` copies its weights into the project and
writes what they are to a file beside them, the pointer; the train stage depends on the latter, which names their
SHA-256 and so stands for them. Until then its ``sha256`` is null.
"""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

from fedpipe.config import Train
from fedpipe.datasets.shards import Manifest
from fedpipe.errors import PipelineError
from fedpipe.json_model import read_json
from fedpipe.networks.network import Network, Weights
from fedpipe.networks.spec import ModelSpec
from fedpipe.networks.weights import load_weights, read_spec
from fedpipe.seeds import Purpose, generator
from fedpipe.tracking import run_events

_SET_IT = "`make retrain` sets it (or, without training, `python -m operations.retrain.initial`)"

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Pointer(BaseModel):
    """Which weights the file beside it holds, and when they were chosen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: Sha256 | None
    model: str | None = None  # in the registry
    version: int | None = None
    pool: Sha256 | None = None  # digest of the pool's ledger for which they were chosen

    @staticmethod
    def read(path: Path) -> "Pointer":
        """Reads the pointer from its file.

        Raises:
          PipelineError: It is missing or is no pointer.
        """
        return read_json(
            Pointer,
            path,
            missing=f"restore it with `git checkout {path}`",
            wrong=f"does not say which weights to start from: {_SET_IT}",
        )


def require_fit(settings: Train, manifest: Manifest, wanted: ModelSpec, *, weights: Path, pointer: Path) -> str:
    """Checks that the weights to start from are there and fit, before anything expensive happens.

    Args:
      settings: Section train of params.yaml.
      manifest: The description of the shards.
      wanted: The model that is to be trained.
      weights: The file of the champion's weights.
      pointer: The file that says which they are.

    Returns:
      What training starts from, in a few words.

    Raises:
      PipelineError: ``init`` is champion, and the weights are not set, missing, changed, or another model's.
    """
    if settings.init == "fresh":
        return "fresh"
    if settings.init == "file":
        return _check_file(settings, wanted)
    if manifest.held_out == "fraction":
        # Which samples are held out depends on how many a client has, so a pool that has grown holds out others.
        raise PipelineError(
            "params.yaml: 'train.init' is champion, but with 'partition.client_test' fraction the champion may have "
            "been trained on samples that are held out now: set 'partition.client_test' to same_distribution, or "
            "'train.init' to fresh"
        )
    chosen = Pointer.read(pointer)
    if chosen.sha256 is None:
        raise PipelineError(f"params.yaml: 'train.init' is champion, but {pointer} names no weights yet: {_SET_IT}")
    if chosen.model != run_events.experiment(manifest.dataset):
        raise PipelineError(
            f"params.yaml: 'train.init' is champion, but {pointer} names weights of {chosen.model}, and the data set "
            f"is {manifest.dataset}: {_SET_IT}"
        )
    try:
        present = hashlib.sha256(weights.read_bytes()).hexdigest()
    except FileNotFoundError:
        present = ""
    if present != chosen.sha256:
        raise PipelineError(
            f"{weights} {'is not the file that' if present else 'is missing, which'} {pointer} names: restore it with "
            f"`dvc checkout {weights}.dvc`, or with `dvc pull {weights}.dvc` from a remote"
        )
    check_fit(weights, wanted, "champion, but the champion")
    return f"{chosen.model} version {chosen.version}"


def _check_file(settings: Train, wanted: ModelSpec) -> str:
    """Checks the file of ``train.init_file``, and returns it in a few words."""
    path, named = Path(settings.init_file.path), settings.init_file.sha256
    try:
        present = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise PipelineError(f"params.yaml: 'train.init_file.path' is {path}: {error.strerror}") from None
    if present != named:
        raise PipelineError(
            f"params.yaml: 'train.init_file.sha256' is {named}, and {path} has {present}: restore the file, or set the "
            "sum"
        )
    check_fit(path, wanted, f"file, but {path}")
    return f"{path} (SHA-256 {named[:12]})"


def check_fit(weights: Path, wanted: ModelSpec, start: str = "champion, but the champion") -> None:
    """Compares the weights to start from with the model that is to be trained; without TensorFlow.

    Raises:
      PipelineError: The weights are another model's, or for other images or classes.
    """
    present = read_spec(weights)
    if replace(present, loss=wanted.loss, loss_params=wanted.loss_params) != wanted:
        raise PipelineError(
            f"params.yaml: 'train.init' is {start} is {_words(present)}, and this training is of {_words(wanted)}: set "
            "'train.init' to fresh, or 'train.model' and the data set to those of the weights"
        )


def _words(spec: ModelSpec) -> str:
    if not spec.kind.is_image:
        return f"{spec.model} for {spec.kind}"
    height, width, channels = spec.image_shape
    return f"{spec.model} for {height}x{width}x{channels} images of {spec.classes} classes"


def first_weights(model: Network, settings: Train, weights: Path) -> Weights:
    """The weights before the first round, as ``settings.init`` says; ``weights``: the file of the champion's."""
    if settings.init == "file":
        return load_weights(Path(settings.init_file.path))[1]
    if settings.init == "champion":
        return load_weights(weights)[1]
    return model.first_weights(generator(settings.seed, Purpose.INITIAL_WEIGHTS))
