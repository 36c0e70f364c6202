"""A trained model for other runtimes: in TensorFlow's own ops, or in Keras's own layers, with its preprocessing.

Input are samples as the data set has them, such as uint8 images [n, h, w, c]; output are class probabilities float32
[n, classes], or the numbers of a label.
"""

from typing import Any

from fedpipe.contracts.model import MODELS
from fedpipe.errors import PipelineError
from fedpipe.lazy import tf
from fedpipe.networks.augmentation import without_augmentation
from fedpipe.networks.dropout import Dropout
from fedpipe.networks.layers import plain_ops
from fedpipe.networks.network import Network, Weights
from fedpipe.samples.kind import Standard

INPUT = "samples"


def output_name(network: Network) -> str:
    """``probabilities`` of classes, or ``numbers``."""
    return "probabilities" if network.spec.format.numbers is None else "numbers"


def plain_model(network: Network, weights: Weights) -> Any:
    """A ``tf.Module`` whose function ``predict`` takes any number of samples, and has TensorFlow's own ops only."""
    module = tf.Module()
    module.weights = [tf.Variable(weight, trainable=False) for weight in weights]
    samples = tf.TensorSpec([None, *network.spec.image_shape], network.spec.format.samples, name=INPUT)
    name = output_name(network)

    @tf.function(input_signature=[samples])
    def predict(samples: Any) -> dict[str, Any]:
        return {name: network.predictions(network.forward(module.weights, network.scaled(samples), Dropout()))}

    with plain_ops():
        predict.get_concrete_function()
    module.predict = predict
    return module


def keras_model(network: Network, weights: Weights) -> Any:
    """A Keras model in Keras's own layers, which `tf.keras.models.load_model` reads without this project.

    Raises:
      PipelineError: The model's file does not say which layers it consists of.
    """
    spec, kinds = network.spec, tf.keras.layers
    samples = kinds.Input(spec.image_shape, dtype=spec.format.samples, name=INPUT)
    start = kinds.Rescaling(1 / 255, name="scale")(samples) if spec.format.samples == "uint8" else samples
    standard = spec.format.standard
    if standard is not None and spec.format.samples == "uint8":
        factors = [1 / deviation for deviation in standard.deviations]
        offsets = [-mean / deviation for mean, deviation in zip(*_broadcast(standard), strict=True)]
        start = kinds.Rescaling(factors, offsets, name="standardise")(start)
    layers, has_softmax = _layers(network, weights)
    outputs = layers(start)
    if spec.format.numbers is not None:
        outputs = network.predictions(outputs)
    elif not has_softmax:
        outputs = kinds.Softmax()(outputs)
    return tf.keras.Model(samples, kinds.Activation("linear", name=output_name(network))(outputs), name=spec.model)


def _broadcast(standard: Standard) -> tuple[list[float], list[float]]:
    """Means and deviations, as many of the one as of the other."""
    count = max(len(standard.means), len(standard.deviations))
    means, deviations = (list(part) * (count // len(part)) for part in (standard.means, standard.deviations))
    return means, deviations


def _layers(network: Network, weights: Weights) -> tuple[Any, bool]:
    """The layers from float32 samples to outputs, with the weights, and whether a softmax is the last one."""
    spec = network.spec
    model = MODELS.of(spec.model)
    if model.keras_model is not None:
        from fedpipe.networks.keras_model import KerasNetwork

        layers, has_softmax = KerasNetwork(spec, model.keras_model).with_weights(weights)
        return without_augmentation(layers), has_softmax
    if model.keras_layers is None:
        raise PipelineError(
            f"{spec.model} has no form in Keras's own layers: its file in fedpipe/models has no function keras_layers; "
            "the formats savedmodel, tflite and onnx need none"
        )
    layers = tf.keras.Sequential([tf.keras.layers.Input(spec.image_shape), *model.keras_layers(spec)])
    layers.set_weights(weights)
    return layers, False
