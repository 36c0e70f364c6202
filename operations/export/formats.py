"""The formats: how each is written, and how its own runtime predicts from what was written."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedpipe.errors import PipelineError
from fedpipe.lazy import tf
from fedpipe.networks.network import Network, Weights
from fedpipe.networks.portable import INPUT, keras_model, plain_model

_ONNX_OPSET = 17  # of 2022; runtimes of the years since read it

Predict = Callable[[np.ndarray], np.ndarray]  # samples [n, ...] -> float32 [n, outputs]


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
      file: The name of the file or folder, in the folder of exports.
      write: Writes the model to a path that does not exist.
      load: Reads that path with the format's own runtime, without this project's code.
    """

    file: str
    write: Callable[[Network, Weights, Path], None]
    load: Callable[[Path], Predict]


def _write_saved_model(network: Network, weights: Weights, path: Path) -> None:
    module = plain_model(network, weights)
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.predict})


def _load_saved_model(path: Path) -> Predict:
    model = tf.saved_model.load(str(path))
    predict = model.signatures["serving_default"]
    return lambda samples: _only(predict(**{INPUT: tf.constant(samples)})).numpy()


def _write_tflite(network: Network, weights: Weights, path: Path) -> None:
    module = plain_model(network, weights)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.predict.get_concrete_function()], module)
    try:
        path.write_bytes(converter.convert())
    except Exception as error:  # TensorFlow raises classes of its own that it does not publish
        raise _unconverted("TFLite", network, error) from error


def _load_tflite(path: Path) -> Predict:
    predict = tf.lite.Interpreter(str(path)).get_signature_runner()
    return lambda samples: _only(predict(**{INPUT: samples}))


def _write_keras(network: Network, weights: Weights, path: Path) -> None:
    keras_model(network, weights).save(path)


def _load_keras(path: Path) -> Predict:
    model = tf.keras.models.load_model(path, compile=False)
    return lambda samples: model(tf.constant(samples), training=False).numpy()


def _write_onnx(network: Network, weights: Weights, path: Path) -> None:
    _require_onnx()
    import tf2onnx

    predict = plain_model(network, weights).predict
    try:
        model, _ = tf2onnx.convert.from_function(predict, predict.input_signature, opset=_ONNX_OPSET)
    except Exception as error:  # the package raises classes of many kinds
        raise _unconverted("ONNX", network, error) from error
    path.write_bytes(model.SerializeToString())


def _load_onnx(path: Path) -> Predict:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda samples: np.asarray(session.run(None, {INPUT: samples})[0])


def _require_onnx() -> None:
    missing = [name for name in ("tf2onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise PipelineError(f"the format onnx needs {' and '.join(missing)}: run `make onnx-env`")


def _unconverted(format_name: str, network: Network, error: Exception) -> PipelineError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return PipelineError(
        f"{network.spec.model} cannot be converted to {format_name}: {lines[0][:300]}; the format "
        "savedmodel keeps every op"
    )


def _only(outputs: dict[str, Any]) -> Any:
    (output,) = outputs.values()
    return output


FORMATS = {
    "keras": Format("model.keras", _write_keras, _load_keras),
    "onnx": Format("model.onnx", _write_onnx, _load_onnx),
    "savedmodel": Format("model", _write_saved_model, _load_saved_model),
    "tflite": Format("model.tflite", _write_tflite, _load_tflite),
}
