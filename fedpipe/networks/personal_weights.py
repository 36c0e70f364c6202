"""The file of personal models: safetensors, one model per client, or a few that clients share (clusters).

    client_model    int32 [clients]: which model is the client's
    <name>          float32 [models, ...], for each tensor of the model

A training without personal models leaves a file without tensors. Models are written and read one at a time.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fedpipe.atomic import atomic_file
from fedpipe.errors import PipelineError
from fedpipe.networks.network import Network, Weights

_CLIENT_MODEL = "client_model"
_METADATA_KEY = "fedpipe"
_ALIGNMENT = 8  # bytes, of the first tensor of a safetensors file


def save_none(path: Path, model: Network) -> None:
    """Writes the file of a training without personal models."""
    with atomic_file(path) as partial:
        partial.write_bytes(save({}, _metadata(model, clusters=False)))


def save_personal(
    path: Path, model: Network, client_model: np.ndarray, models: Iterable[Weights], count: int, *, clusters: bool
) -> None:
    """Writes ``count`` models; ``clusters`` says that they are of clusters of clients."""
    starts, end, tensors = {}, 0, {}
    for name, shape in model.shapes.items():
        starts[name], size = end, 4 * math.prod(shape)
        tensors[name] = {"dtype": "F32", "shape": [count, *shape], "data_offsets": [end, end + count * size]}
        end += count * size
    last = [end, end + 4 * len(client_model)]
    tensors[_CLIENT_MODEL] = {"dtype": "I32", "shape": [len(client_model)], "data_offsets": last}
    text = json.dumps({"__metadata__": _metadata(model, clusters), **tensors}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    data = 8 + len(text)
    with atomic_file(path) as partial, partial.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for number, weights in enumerate(models):
            for (name, start), part in zip(starts.items(), weights, strict=True):
                values = np.ascontiguousarray(part, "<f4").reshape(model.shapes[name])
                file.seek(data + start + number * values.nbytes)
                file.write(values.tobytes())
        file.seek(data + end)
        file.write(np.asarray(client_model, "<i4").tobytes())


def _metadata(model: Network, clusters: bool) -> dict[str, str]:
    return {_METADATA_KEY: json.dumps({**model.spec.to_json(), "clusters": clusters})}


@dataclass(frozen=True, eq=False)
class PersonalModels:
    """The file, opened."""

    path: Path
    names: tuple[str, ...]
    client_model: np.ndarray  # int32 [clients]
    clusters: bool  # whether clients share models

    @staticmethod
    def open(path: Path, model: Network, clients: int) -> "PersonalModels | None":
        """Opens the personal models of ``clients`` clients; None if there are none.

        Raises:
          PipelineError: The file is missing, cut short, or has models of other shapes or for other clients.
        """
        try:
            with safe_open(str(path), framework="numpy") as file:
                if not file.keys():
                    return None
                owners = file.get_tensor(_CLIENT_MODEL)
                metadata = json.loads((file.metadata() or {})[_METADATA_KEY])
                for name, shape in model.shapes.items():
                    stacked = file.get_slice(name).get_shape()
                    if tuple(stacked[1:]) != shape or not (owners >= 0).all() or (owners >= stacked[0]).any():
                        raise ValueError(f"{name} has the shape {stacked}")
        except FileNotFoundError:
            raise PipelineError(f"{path} is missing: run the train stage first (dvc repro)") from None
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise PipelineError(
                f"{path} is not a file of personal models ({error}): run the train stage again"
            ) from None
        if len(owners) != clients:
            raise PipelineError(
                f"{path} has models of {len(owners)} clients, not of {clients}: run the train stage again"
            )
        return PersonalModels(path, tuple(model.shapes), owners, bool(metadata["clusters"]))

    def of(self, client: int) -> Weights:
        """The weights that ``client`` uses."""
        number = int(self.client_model[client])
        with safe_open(str(self.path), framework="numpy") as file:
            return [file.get_slice(name)[number : number + 1][0] for name in self.names]
