"""A model from a `.keras` file: its layers, and the weights that training starts from.

    train:
      model: keras_file
      keras_file:
        path: data/start.keras   # a file of Keras 2.12 to 2.15, saved with model.save("start.keras")
        sha256: ...              # of the file: sha256sum data/start.keras

The network gets images scaled to [0, 1]; a softmax at its end is taken off. The file of trained weights holds the
layers too, so only training reads the `.keras` file. A file may come from anybody: one whose layers are not all
Keras's own is rejected before Keras reads it.
"""

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field, StringConstraints

from fedpipe.config.section import Section
from fedpipe.config.train import Train
from fedpipe.errors import PipelineError
from fedpipe.lazy import tf
from fedpipe.networks.keras_description import MEMBERS, has_trained_batch_norm, outside_links, unknown_parts
from fedpipe.networks.spec import ModelSpec

if TYPE_CHECKING:
    from fedpipe.networks.keras_model import KerasNetwork

_KEYS = "params.yaml: 'train.keras_file"


class Params(Section):
    """``path``: the file, relative to the project; ``sha256``: its SHA-256 in hexadecimal."""

    path: Annotated[str, Field(min_length=1)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


def has_batch_norm(settings: Train) -> bool:
    """Whether the file, if it can be read, describes a BatchNormalization layer that is not frozen."""
    try:
        with zipfile.ZipFile(settings.params_of("model").path) as file:
            return has_trained_batch_norm(json.loads(file.read("config.json")))
    except (OSError, zipfile.BadZipFile, KeyError, ValueError):
        return False  # `architecture` says what is wrong with it


def architecture(spec: ModelSpec) -> str:
    """The layers as JSON.

    Raises:
      PipelineError: The file is missing, is another one than the SHA-256 says, is no `.keras` file, or names or
        holds more than layers of Keras.
    """
    content = _content(spec.params)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            members, config = file.namelist(), json.loads(file.read("config.json"))
    except (zipfile.BadZipFile, KeyError, ValueError):
        raise PipelineError(
            f"{_KEYS}.path' is {spec.params.path}, which is no .keras file: save the model with "
            "model.save('name.keras') in Keras 2.12 to 2.15"
        ) from None
    _validate(spec, config)
    if more := [name for name in members if name not in MEMBERS]:
        raise _refused(spec, f"holds {more[0]}, which none of those layers needs")
    # How the model was compiled and trained elsewhere is no part of the network.
    kept = {key: value for key, value in config.items() if key not in ("compile_config", "build_config")}
    return json.dumps(kept, separators=(",", ":"))


def keras_model(spec: ModelSpec) -> Any:
    """The layers of ``spec.architecture``, with weights that Keras draws.

    Raises:
      PipelineError: They are not all layers of Keras, or it cannot read them.
    """
    description = json.loads(spec.architecture)
    _validate(spec, description)
    try:
        return tf.keras.utils.deserialize_keras_object(description, safe_mode=True)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise _unreadable(spec, error) from error


def first_weights(spec: ModelSpec, rng: np.random.Generator) -> list[np.ndarray]:
    """The weights that the file holds; nothing is drawn.

    Raises:
      PipelineError: The file is missing, is another one than the SHA-256 says, or cannot be read.
    """
    return _saved(spec).values()


def constants(spec: ModelSpec) -> dict[str, np.ndarray]:
    """The weights of the file that are not trained: of frozen layers, and the means of a Normalization layer.

    Raises:
      PipelineError: As `first_weights`.
    """
    return _saved(spec).constants()


def _saved(spec: ModelSpec) -> "KerasNetwork":
    """The network with the weights of the file."""
    from fedpipe.networks.keras_model import KerasNetwork

    def saved(spec: ModelSpec) -> Any:
        architecture(spec)
        try:
            for name in outside_links(_content(spec.params)):
                raise _refused(spec, f"reads the weights {name} from another file")
            return tf.keras.models.load_model(spec.params.path, compile=False, safe_mode=True)
        except (ValueError, TypeError, AttributeError, KeyError, OSError) as error:
            raise _unreadable(spec, error) from error

    return KerasNetwork(spec, saved, is_saved=True)


def _content(params: Params) -> bytes:
    path = Path(params.path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PipelineError(
            f"{_KEYS}.path' is {path}, which cannot be read ({error.strerror}): put the file there"
        ) from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != params.sha256:
        raise PipelineError(
            f"{path} has the SHA-256 {digest}, and {_KEYS}.sha256' is {params.sha256}: put the right file there, or "
            "set the sum to that of the file"
        )
    return content


def _validate(spec: ModelSpec, description: Any) -> None:
    for name in unknown_parts(description):
        raise _refused(spec, f"names {name}, which fedpipe takes from no file")


def _refused(spec: ModelSpec, reason: str) -> PipelineError:
    return PipelineError(
        f"{_KEYS}.path' is {spec.params.path}, which {reason}: it may hold layers of Keras, but no code, no layer that "
        "reads a file, and no layer of your own; put such layers into a file in fedpipe/models with a function "
        "keras_model"
    )


def _unreadable(spec: ModelSpec, error: Exception) -> PipelineError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return PipelineError(
        f"{_KEYS}.path' is {spec.params.path}, which the Keras of TensorFlow {tf.__version__} cannot read ({reason}): "
        "save it with Keras 2.12 to 2.15, and put layers of your own into a file in fedpipe/models with a function "
        "keras_model"
    )
