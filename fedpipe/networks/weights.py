"""The file of a model's weights: safetensors, with the model's specification. Reading one needs no TensorFlow."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fedpipe.atomic import atomic_file
from fedpipe.errors import PipelineError
from fedpipe.networks.network import Network, Weights, network
from fedpipe.networks.spec import ModelSpec

_CONSTANT = "constant/"  # before the names of weights that are not trained
_METADATA_KEY = "fedpipe"  # one key only: safetensors does not keep the order of several


def save_weights(path: Path, model: Network, weights: Weights) -> None:
    """Writes ``weights`` with the model's specification; equal weights give equal files."""
    tensors = dict(zip(model.shapes, weights, strict=True))
    tensors |= {_CONSTANT + name: value for name, value in (model.spec.constants or {}).items()}
    with atomic_file(path) as partial:
        partial.write_bytes(save(tensors, {_METADATA_KEY: json.dumps(model.spec.to_json())}))


def read_spec(path: Path) -> ModelSpec:
    """The model whose weights ``path`` holds.

    Raises:
      PipelineError: The file is missing, cut short, or not such a file.
    """
    try:
        with safe_open(str(path), framework="numpy") as file:
            return ModelSpec.from_json(json.loads((file.metadata() or {})[_METADATA_KEY]))
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing: run the train stage first (dvc repro)") from None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise PipelineError(f"{path} is not a file of weights ({error}): run the train stage again") from None


def load_weights(path: Path) -> tuple[Network, Weights]:
    """Reads a file of `save_weights`.

    Raises:
      PipelineError: The file is missing, cut short, or not such a file.
    """
    spec = read_spec(path)
    try:
        with safe_open(str(path), framework="numpy") as file:
            names = [name for name in file.keys() if name.startswith(_CONSTANT)]  # noqa: SIM118 (no mapping)
            constants = {name.removeprefix(_CONSTANT): file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise PipelineError(f"{path} is not a file of weights ({error}): run the train stage again") from None
    model = network(replace(spec, constants=constants))
    try:
        with safe_open(str(path), framework="numpy") as file:
            weights = [file.get_tensor(name) for name in model.shapes]
        for (name, shape), weight in zip(model.shapes.items(), weights, strict=True):
            if weight.shape != shape or not np.isfinite(weight).all():
                raise ValueError(f"{name} is not finite or not of shape {shape}")
    except (SafetensorError, ValueError) as error:
        raise PipelineError(f"{path} is not a file of weights ({error}): run the train stage again") from None
    return model, weights
