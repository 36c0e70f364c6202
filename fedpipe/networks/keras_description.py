"""Which parts of a Keras model may be named by a file: layers of Keras, and nothing else.

Keras 2.14 imports any module that the description of a model names, and calls its functions, also in safe mode
(docs/security.md lists the advisories). A `.keras` file and a file of weights both hold such a description, so it is
validated before Keras reads it: no function of another package, no Python code, no layer that reads a file.
"""

import io
import zipfile
from collections.abc import Iterator
from functools import cache
from typing import Any

from fedpipe.lazy import tf

MEMBERS = frozenset({"config.json", "metadata.json", "model.weights.h5"})  # of a `.keras` file
# They hold Python code, or read a file that the description names.
_REFUSED = frozenset({"Lambda", "StringLookup", "IntegerLookup", "TextVectorization", "DenseFeatures"})
_VALUES = frozenset({"__tensor__", "__numpy__", "__bytes__"})
_MODELS = frozenset({"Model", "Sequential", "Functional", "Policy", "SlicingOpLambda"})
# TensorFlow's functions in a functional model, such as the addition in `x + y`.
_OPERATIONS = ("__operators__.", "math.", "nn.", "linalg.")
_MORE_OPERATIONS = frozenset(
    {
        "cast",
        "clip_by_value",
        "concat",
        "convert_to_tensor",
        "expand_dims",
        "gather",
        "identity",
        "one_hot",
        "ones_like",
    }
    | {"pad", "repeat", "reshape", "reverse", "shape", "split", "squeeze", "stack", "tile", "transpose", "unstack"}
    | {"where", "zeros_like"}
)


def unknown_parts(description: Any) -> Iterator[str]:
    """Yields each part of a model's description, as JSON has it, that is none of Keras's own, as ``module.name``."""
    if isinstance(description, list):
        for part in description:
            yield from unknown_parts(part)
    elif isinstance(description, dict):
        if "class_name" in description and not _is_known(description):
            module, name = description.get("module"), description["class_name"]
            name = description.get("config") if name == "function" else name
            yield f"{module}.{name}" if module else f"{name}"
        for part in description.values():
            yield from unknown_parts(part)


def has_trained_batch_norm(description: Any) -> bool:
    """Whether a model's description, as JSON has it, has batch normalization in it that is not frozen."""
    if isinstance(description, list):
        return any(map(has_trained_batch_norm, description))
    if not isinstance(description, dict):
        return False
    config = description.get("config")
    if isinstance(config, dict) and config.get("trainable") is False:
        return False  # and so are its layers
    if description.get("class_name") == "BatchNormalization":
        return True
    return any(map(has_trained_batch_norm, description.values()))


def outside_links(archive: bytes) -> Iterator[str]:
    """Yields each name in the weights of a `.keras` file behind which HDF5 would read another file.

    Args:
      archive: The `.keras` file.
    """
    import h5py  # type: ignore[import-untyped]

    with (
        zipfile.ZipFile(io.BytesIO(archive)) as members,
        h5py.File(io.BytesIO(members.read("model.weights.h5")), "r") as weights,
    ):
        groups = [weights]
        while groups:
            group = groups.pop()
            for name in group:
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    yield f"{group.name.rstrip('/')}/{name}"
                    continue
                member = group[name]
                if isinstance(member, h5py.Group):
                    groups.append(member)
                elif member.is_virtual or member.external:
                    yield member.name


def _is_known(part: dict[str, Any]) -> bool:
    name, module, config = part["class_name"], part.get("module"), part.get("config")
    if not isinstance(name, str) or not isinstance(module, str | None):
        return False
    if name in _VALUES:
        return True
    inside = module is None or module == "keras" or module.startswith("keras.")
    if name == "function":
        if not isinstance(config, str):
            return False
        from_tensorflow = module is not None and module.startswith("tensorflow.")
        return config in (_names("nn") if from_tensorflow else _functions()) and (
            inside or from_tensorflow or module == "builtins"
        )
    if name == "TFOpLambda":
        function = config.get("function") if isinstance(config, dict) else None
        is_operation = isinstance(function, str) and (function.startswith(_OPERATIONS) or function in _MORE_OPERATIONS)
        return inside and is_operation
    return inside and (name in _classes() or name in _MODELS)


@cache
def _classes() -> frozenset[str]:
    kinds = ("layers", "initializers", "regularizers", "constraints", "optimizers", "losses", "metrics")
    names = {name for kind in kinds for name in dir(getattr(tf.keras, kind)) if name[0].isupper()}
    return frozenset(names - _REFUSED)


@cache
def _functions() -> frozenset[str]:
    kinds = (tf.keras.activations, tf.keras.losses, tf.keras.metrics)
    names = {name for kind in kinds for name in dir(kind) if name[0].islower()}
    return frozenset(names - {"get", "serialize", "deserialize", "experimental"})


@cache
def _names(part: str) -> frozenset[str]:
    return frozenset(name for name in dir(getattr(tf, part)) if name[0].islower())
