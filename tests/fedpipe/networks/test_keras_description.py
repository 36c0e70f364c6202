"""A file that describes a Keras model may name layers of Keras, and can neither run code nor read other files."""

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file, save_file

from fedpipe.errors import PipelineError
from fedpipe.models import keras_file
from fedpipe.networks.keras_description import outside_links, unknown_parts
from fedpipe.networks.network import network
from fedpipe.networks.spec import ModelSpec
from fedpipe.networks.weights import load_weights, save_weights

L = tf.keras.layers


def part(module: str | None, name: str, /, **config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


def function(module: str | None, name: str) -> dict[str, Any]:
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def command(path: Path) -> dict[str, Any]:
    """A Lambda layer with a function of the standard library that runs a command, which safe mode lets pass."""
    return part(
        "keras.layers",
        "Lambda",
        name="lambda",
        function=function("pydoc", "pipepager"),
        function_type="function",
        module="pydoc",
        output_shape=None,
        output_shape_type="raw",
        output_shape_module=None,
        arguments={"cmd": f"touch {path}"},
    )


def start(folder: Path, *more: dict[str, Any]) -> ModelSpec:
    """A `.keras` file, with ``more`` layers in its description."""
    path = folder / "start.keras"
    tf.keras.Sequential([L.Input((28, 28, 1)), L.Flatten(), L.Dense(10)]).save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    description = json.loads(members["config.json"])
    description["config"]["layers"] += more
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | {"config.json": json.dumps(description).encode()}).items():
            archive.writestr(name, content)
    return spec_of(path)


def spec_of(path: Path) -> ModelSpec:
    params = keras_file.Params(path=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    return ModelSpec("keras_file", (28, 28, 1), 10, params)


def test_a_file_cannot_run_code(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    with pytest.raises(PipelineError, match=r"start.keras, which names keras.layers.Lambda, which .* from no file"):
        network(start(tmp_path, command(ran)))
    assert not ran.exists()


def test_a_file_of_weights_cannot_run_code(tmp_path: Path) -> None:
    ran, path = tmp_path / "ran", tmp_path / "weights.safetensors"
    model = network(start(tmp_path))
    save_weights(path, model, model.first_weights(np.random.default_rng(0)))
    description = json.loads(model.spec.architecture)
    description["config"]["layers"].append(command(ran))
    content = model.spec.to_json() | {"architecture": json.dumps(description)}
    save_file(load_file(path), path, {"fedpipe": json.dumps(content)})
    with pytest.raises(PipelineError, match=r"names keras.layers.Lambda"):
        load_weights(path)
    assert not ran.exists()


def test_a_file_holds_no_more_than_a_model(tmp_path: Path) -> None:
    path = Path(start(tmp_path).params.path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("assets/vocabulary.txt", "")
    with pytest.raises(PipelineError, match=r"holds assets/vocabulary.txt, which none of those layers needs"):
        network(spec_of(path))


@pytest.mark.parametrize(
    ("description", "name"),
    [
        (part("keras.layers", "StringLookup", vocabulary="/etc/passwd"), "keras.layers.StringLookup"),
        (part("keras.layers", "TextVectorization", vocabulary="/etc/passwd"), "keras.layers.TextVectorization"),
        (part("keras.layers", "Activation", activation=function("os", "system")), "os.system"),
        (part("keras.layers", "Activation", activation=function("builtins", "eval")), "builtins.eval"),
        (part("keras.layers", "Activation", activation=function("tensorflow.io", "write_file")), "tensorflow.io.write"),
        (part("keras.utils", "get_file"), "keras.utils.get_file"),
        (part("subprocess", "Dense"), "subprocess.Dense"),
        (
            part("keras.src.layers.core.tf_op_layer", "TFOpLambda", function="io.read_file"),
            "keras.src.layers.core.tf_op",
        ),
        (part(None, "__lambda__", value=[]), "__lambda__"),
        (part("keras", "Sequential", layers=[part("keras.layers", "Lambda")]), "keras.layers.Lambda"),
        ({"compile_config": {"loss": function("os", "system")}}, "os.system"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_parts_of_other_packages_are_seen_wherever_they_are(description: dict[str, Any], name: str) -> None:
    assert next(unknown_parts({"class_name": "Model", "config": {"layers": [description]}})).startswith(name)


def test_layers_of_keras_are_known() -> None:
    images = L.Input((8, 8, 3))
    x = L.Conv2D(4, 3, activation=tf.nn.relu, kernel_regularizer="l2", kernel_initializer="he_normal")(images)
    x = L.BatchNormalization()(tf.keras.Sequential([L.RandomFlip(), L.Conv2D(4, 3, kernel_constraint="max_norm")])(x))
    x = tf.reshape(L.Activation(tf.keras.activations.gelu)(x) * 2.0 + 1.0, (-1, 16, 4))
    x = L.Bidirectional(L.LSTM(3))(x)[:, :5]
    model = tf.keras.Model(images, L.Dense(10, activation="softmax")(x))
    model.compile("adam", tf.keras.losses.SparseCategoricalCrossentropy(), metrics=[tf.keras.metrics.AUC()])
    description = json.loads(json.dumps(tf.keras.utils.serialize_keras_object(model)))
    assert not list(unknown_parts(description))


@pytest.mark.parametrize("kind", ["link", "soft link", "virtual", "storage"])
def test_weights_in_another_file_are_seen(kind: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["value"] = np.ones(3)
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        group = file.create_group("layers")
        if kind == "link":
            group["dense"] = h5py.ExternalLink(secret, "value")
        elif kind == "soft link":
            group["dense"] = h5py.SoftLink("/elsewhere")
        elif kind == "virtual":
            layout = h5py.VirtualLayout((3,), "f8")
            layout[:] = h5py.VirtualSource(secret, "value", (3,))
            group.create_virtual_dataset("dense", layout)
        else:
            group.create_dataset("dense", (3,), "f8", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("model.weights.h5", content.getvalue())
    assert list(outside_links(archive.getvalue())) == ["/layers/dense"]


def test_such_weights_are_refused(tmp_path: Path) -> None:
    path = Path(start(tmp_path).params.path)
    assert not list(outside_links(path.read_bytes()))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    weights = io.BytesIO(members["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        file["more"] = h5py.ExternalLink(tmp_path / "secret.h5", "value")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | {"model.weights.h5": weights.getvalue()}).items():
            archive.writestr(name, content)
    spec = spec_of(path)
    with pytest.raises(PipelineError, match=r"start.keras, which reads the weights /more from another file"):
        network(spec).first_weights(np.random.default_rng(0))
