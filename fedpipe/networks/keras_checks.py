"""Which layers of a Keras model can be trained here; the others are rejected by name."""

from collections.abc import Callable
from typing import Any

from fedpipe.errors import PipelineError
from fedpipe.lazy import tf
from fedpipe.networks.augmentation import SUPPORTED, Augmentation, is_augmentation
from fedpipe.networks.batch_norm import is_trained
from fedpipe.networks.dropout import Dropout
from fedpipe.networks.spec import Shapes
from fedpipe.samples.kind import Shape

_OTHER_AUGMENTATIONS = ("RandomHeight", "RandomWidth")


def require_trainable(model: str, layer: Any, *, has_constants: bool) -> None:
    """Checks a layer of a Keras model.

    Args:
      model: The beginning of messages.
      layer: Of Keras, built.
      has_constants: Whether the values of weights that are not trained are known.

    Raises:
      PipelineError: It cannot be trained here; the message says what to do.
    """
    beginning = f"{model} has the layer '{layer.name}' ({type(layer).__name__})"
    _require_no_other_draws(beginning, layer)
    _require_batch_norm(beginning, layer)
    if layer.non_trainable_weights and not is_trained(layer) and not has_constants:
        raise PipelineError(
            f"{beginning} with weights that are not trained: take the layer out, set its trainable to True, or "
            "save the model and choose keras_file, which keeps such weights"
        )
    if layer.losses:
        raise PipelineError(
            f"{beginning} with a loss of its own, which training would leave out: remove its regularizers and set "
            "'train.client_optimizer.weight_decay'"
        )
    if layer.compute_dtype not in (None, "float32"):
        raise PipelineError(f"{beginning} that computes with {layer.compute_dtype}: use float32 throughout")
    for variable in layer.trainable_weights:
        if variable.constraint is not None:
            raise PipelineError(f"{beginning} with a constraint, which averaging would not keep: leave it out")


def require_pure(model: str, train_forward: Callable[..., Any], shapes: Shapes, sample: Shape) -> None:
    """Traces a training pass and looks for ops that depend on more than their inputs.

    Args:
      model: The beginning of messages.
      train_forward: ``(weights, samples, dropout, augmentation) -> ...``.
      shapes: Of the weights.
      sample: The shape of a sample.

    Raises:
      PipelineError: There is such an op.
    """
    weights = [tf.TensorSpec(shape, tf.float32) for shape in shapes.values()]
    samples, seed = tf.TensorSpec([None, *sample], tf.float32), tf.TensorSpec([2], tf.int32)
    traced = tf.function(lambda w, x, s: train_forward(w, x, Dropout(s), Augmentation(s)), autograph=False)
    graph = traced.get_concrete_function(weights, samples, seed).graph
    for operation in graph.get_operations():
        captured = operation.type == "Placeholder" and operation.outputs[0].dtype == tf.resource
        if not captured and not operation.op_def.is_stateful:
            continue
        # A function with a stateful op in it is called by a stateful op, so this level is enough.
        impure = operation.outputs[0].consumers()[0] if captured else operation
        layer = impure.name.split("/")[0]
        raise PipelineError(
            f"{model} has the layer '{layer}', which draws, or keeps something where fedpipe does not find it "
            f"(TensorFlow's op {impure.type}), so two runs would differ: use Dropout or {', '.join(SUPPORTED)} for "
            "randomness, and keep each weight in an attribute of its layer"
        )


def _require_no_other_draws(beginning: str, layer: Any) -> None:
    kinds = tf.keras.layers
    if isinstance(layer, kinds.Dropout) and layer.noise_shape is not None:
        raise PipelineError(f"{beginning} with a noise_shape, which is not supported: leave it out")
    if type(layer).__name__ in _OTHER_AUGMENTATIONS:
        raise PipelineError(f"{beginning}, which changes the size of images: use one of {', '.join(SUPPORTED)}")
    for part in layer.submodules:
        if is_augmentation(part):
            raise PipelineError(f"{beginning} around the layer '{part.name}': put that into the model by itself")


def _require_batch_norm(beginning: str, layer: Any) -> None:
    """Batch normalization that is trained must be a plain layer of the model."""
    kind = tf.keras.layers.BatchNormalization
    if isinstance(layer, kind) and layer.trainable:
        if type(layer) is not kind:
            raise PipelineError(f"{beginning}, which is no plain BatchNormalization: use that one, or freeze the layer")
        if len(layer.axis) != 1 or layer.renorm or layer.virtual_batch_size is not None:
            raise PipelineError(
                f"{beginning} with several axes, renorm or virtual_batch_size, which is not supported: leave it out"
            )
    for part in layer.submodules:
        if isinstance(part, kind) and part.trainable:
            raise PipelineError(
                f"{beginning} around the BatchNormalization '{part.name}', whose statistics nobody would average: put "
                "that into the model by itself, or freeze it"
            )
