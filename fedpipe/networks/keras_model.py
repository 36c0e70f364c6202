"""A Keras model as a network: a pure function of weights that are given, with our dropout and our max pooling.

The Keras model describes the layers. Its graph of layers is run one layer at a time; while a layer runs, the given
tensors replace its variables. So nothing is read from Keras's variables, and the same function works in
training, in evaluation and on any worker. A model that is no pure function is rejected with an error.

Not left to Keras: dropout and augmentation layers draw from stateless seeds (`fedpipe.networks.dropout` and
`augmentation`), the statistics of batch normalization are weights, too (`batch_norm`), 2x2 max pooling is oneDNN's
(`layers`), and a softmax at the end is taken off, since losses take logits.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np

from fedpipe.errors import PipelineError
from fedpipe.lazy import tf
from fedpipe.networks import batch_norm, layers
from fedpipe.networks.augmentation import Augmentation, is_augmentation
from fedpipe.networks.batch_norm import Statistics
from fedpipe.networks.dropout import Dropout
from fedpipe.networks.initialisation import glorot_uniform
from fedpipe.networks.keras_calls import distinct, fused, in_order, pools_two_by_two
from fedpipe.networks.keras_checks import require_pure, require_trainable
from fedpipe.networks.spec import ModelSpec, Shapes

Build = Callable[[ModelSpec], Any]  # spec -> tf.keras.Model


@dataclass(frozen=True)
class _Pass:
    """A forward pass: the tensors in the place of variables, by the ids of these, and what it draws and moves."""

    tensors: dict[int, Any]
    dropout: Dropout
    augmentation: Augmentation
    moved: dict[int, Any] = field(default_factory=dict)  # statistics after the pass, by the ids of their variables


class KerasNetwork:
    """A Keras model of one input and one output, checked, as shapes, first weights and forward pass."""

    def __init__(self, spec: ModelSpec, build: Build, *, is_saved: bool = False) -> None:
        """Builds the model for the samples and labels of ``spec``.

        Weights that are not trained (frozen layers, means of a Normalization layer) are constants of the network. They
        come from ``spec.constants``, or with ``is_saved`` from what ``build`` gives.

        Raises:
          PipelineError: It cannot be built, or has a part that cannot be trained here; the message says what to do.
        """
        self._name = f"params.yaml: 'train.model' is {spec.model}, and its Keras model"
        self._running = Lock()  # two threads that trace would take each other's tensors
        self._model = self._build(spec, build)
        self._nodes = {id(model): in_order(model) for model in self._models(self._model)}
        self._fused = dict(pair for nodes in self._nodes.values() for pair in fused(nodes))
        self._layers = list(distinct(self._model, self._nodes))
        for layer in self._layers:
            require_trainable(self._name, layer, has_constants=is_saved or bool(spec.constants))
        self._left_out: Any = None  # the last layer, if it is the softmax
        if spec.format.numbers is None or spec.loss == "binary_cross_entropy":
            self._take_activation_off("softmax" if spec.format.numbers is None else "sigmoid")
        norms = [layer for layer in self._layers if batch_norm.is_trained(layer)]
        self._slots = [
            (layer, variable)
            for layer in self._layers
            for variable in (layer.weights if layer in norms else layer.trainable_weights)
        ]
        self.shapes: Shapes = self._named_shapes(self._slots)
        self.batch_norm = frozenset(
            name for name, (layer, _) in zip(self.shapes, self._slots, strict=True) if layer in norms
        )
        # The least value of each statistic, by its name.
        self.statistics = {
            name: batch_norm.LOWEST[name.rpartition("/")[2]]
            for name, (_, variable) in zip(self.shapes, self._slots, strict=True)
            if not variable.trainable
        }
        others = [layer for layer in self._layers if layer not in norms]
        fixed = [(layer, variable) for layer in others for variable in layer.non_trainable_weights]
        self._constants = dict(zip(self._named_shapes(fixed), (variable for _, variable in fixed), strict=True))
        if not is_saved:
            self._set_constants(spec)
        self._fixed = {id(variable): variable.numpy() for variable in self._constants.values()}
        require_pure(self._name, self.train_forward, self.shapes, spec.image_shape)

    def forward(self, weights: list[Any], images: Any, dropout: Dropout) -> Any:
        """Samples float32, such as images [n, h, w, c] in [0, 1], to outputs float32 [n, outputs], by ``weights``."""
        return self.train_forward(weights, images, dropout, Augmentation())[0]

    def train_forward(
        self, weights: list[Any], images: Any, dropout: Dropout, augmentation: Augmentation
    ) -> tuple[Any, list[Any]]:
        """As `forward`, and the statistics after the step, in their order in `shapes`."""
        tensors = {id(variable): w for (_, variable), w in zip(self._slots, weights, strict=True)}
        tensors |= {key: tf.constant(value) for key, value in self._fixed.items()}
        current = _Pass(tensors, dropout, augmentation)
        with self._running:
            outputs = self._run(self._model, images, current)
        after = {**tensors, **current.moved}
        slots = zip(self.shapes, self._slots, strict=True)
        return outputs, [after[id(variable)] for name, (_, variable) in slots if name in self.statistics]

    def first_weights(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Constants (zeros for biases, ones for scales) as Keras has them; all others Glorot-uniform from ``rng``."""
        weights = []
        for _, variable in self._slots:
            value = variable.numpy()
            constant = value.size == 0 or (value == value.flat[0]).all()
            weights.append(value if constant and value.ndim == 1 else glorot_uniform(value.shape, rng))
        return weights

    def with_weights(self, weights: list[np.ndarray]) -> tuple[Any, bool]:
        """Keras's own model with these weights, and whether a softmax is its last layer, which `forward` leaves out."""
        for (_, variable), weight in zip(self._slots, weights, strict=True):
            variable.assign(weight)
        return self._model, self._left_out is not None

    def values(self) -> list[np.ndarray]:
        """The present values of Keras's variables."""
        return [variable.numpy() for _, variable in self._slots]

    def constants(self) -> dict[str, np.ndarray]:
        """The weights that are not trained, by their names."""
        return {name: np.asarray(variable.numpy()) for name, variable in self._constants.items()}

    def _set_constants(self, spec: ModelSpec) -> None:
        for name, variable in self._constants.items():
            value = (spec.constants or {}).get(name)
            if value is None or value.shape != tuple(variable.shape):
                raise PipelineError(f"{self._name} needs the constant {name}, which its file of weights does not have")
            variable.assign(value)
        for layer in self._layers:
            if hasattr(layer, "finalize_state"):  # as Keras does after it has loaded such a layer's weights
                layer.finalize_state()

    def _build(self, spec: ModelSpec, build: Build) -> Any:
        shape = spec.image_shape
        try:
            model = build(spec)
            if not isinstance(model, tf.keras.Model):
                raise PipelineError(f"{self._name} is a {type(model).__name__}: return a tf.keras.Model")
            if isinstance(model, tf.keras.Sequential) and not model.built:
                model.build((None, *shape))
        except (ValueError, TypeError) as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise PipelineError(
                f"{self._name} cannot be built for {'x'.join(map(str, shape))} "
                f"{'images' if spec.kind.is_image else 'samples'} and {spec.outputs} "
                f"{'classes' if spec.format.numbers is None else 'outputs'}: {reason}"
            ) from error
        if not model.inputs or not model.outputs or not all(layer.inbound_nodes for layer in model.layers):
            raise PipelineError(
                f"{self._name} is a subclass: write it as tf.keras.Sequential or with the functional API"
            )
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise PipelineError(
                f"{self._name} has {len(model.inputs)} inputs and {len(model.outputs)} outputs: it must have one of "
                "each"
            )
        for what, tensor, wanted in (
            ("takes", model.inputs[0], shape),
            ("gives", model.outputs[0], (spec.outputs,)),
        ):
            if not tensor.shape[1:].is_compatible_with(wanted):
                raise PipelineError(
                    f"{self._name} {what} {tuple(tensor.shape)}, but the data set needs {(None, *wanted)}: let "
                    "keras_model(spec) take both from spec.image_shape and spec.outputs"
                )
        return model

    def _models(self, model: Any) -> Iterator[Any]:
        """``model`` and the models that are layers in it."""
        yield model
        for layer in model.layers:
            if isinstance(layer, tf.keras.Model):
                if not layer.inputs or not layer.outputs:
                    raise PipelineError(
                        f"{self._name} has the subclass '{layer.name}' in it: write its layers one by one"
                    )
                yield from self._models(layer)

    def _take_activation_off(self, name: str) -> None:
        """Takes the activation that makes predictions of logits off: ``softmax`` or ``sigmoid``."""
        last = self._nodes[id(self._model)][-1].layer
        while isinstance(last, tf.keras.Model):
            last = self._nodes[id(last)][-1].layer
        activation = getattr(last, "activation", None)
        if isinstance(last, tf.keras.layers.Softmax) and name == "softmax":
            self._left_out = last
        elif activation in (getattr(tf.keras.activations, name), getattr(tf.nn, name)):
            last.activation = tf.keras.activations.linear
        elif activation not in (None, tf.keras.activations.linear):
            present = getattr(activation, "__name__", str(activation))
            raise PipelineError(
                f"{self._name} ends with the activation {present}: losses take logits, so end it with no activation or "
                f"with {name}"
            )

    def _named_shapes(self, slots: list[tuple[Any, Any]]) -> Shapes:
        """By place and kind of layer: Keras's own names count all layers of a process."""
        shapes: Shapes = {}
        place = {id(layer): number for number, layer in enumerate(self._layers, 1)}
        for layer, variable in slots:
            short = variable.name.rsplit("/", 1)[-1].split(":")[0]
            name = first = f"{place[id(layer)]}_{type(layer).__name__.lower()}/{short}"
            again = 1
            while name in shapes:
                again += 1
                name = f"{first}_{again}"
            shapes[name] = tuple(variable.shape)
        return shapes

    def _run(self, model: Any, inputs: Any, current: _Pass) -> Any:
        values = {str(id(model.inputs[0])): inputs}
        done: set[int] = set()
        for node in self._nodes[id(model)]:
            if id(node) in done:
                continue
            # `map_arguments` takes each tensor out of a list as often as the layer uses it.
            arguments, options = node.map_arguments(_Everywhere(values))
            layer, pool = node.layer, self._fused.get(id(node))
            with tf.name_scope(layer.name):
                if pool is not None:
                    kernel, bias = current.tensors[id(layer.kernel)], current.tensors[id(layer.bias)]
                    output = layers.convolve_relu_pool(arguments[0], kernel, bias, layer.padding.upper())
                    done.add(id(pool))
                    node = pool
                elif isinstance(layer, tf.keras.Model):
                    output = self._run(layer, arguments[0], current)
                else:
                    output = self._apply(layer, arguments, options, current)
            for key, tensor in zip(node.flat_output_ids, tf.nest.flatten(output), strict=True):
                values[key] = tensor
        return values[str(id(model.outputs[0]))]

    def _apply(self, layer: Any, arguments: tuple[Any, ...], options: dict[str, Any], current: _Pass) -> Any:
        if layer is self._left_out:
            return arguments[0]
        if type(layer) is tf.keras.layers.Dropout:
            return current.dropout(arguments[0], float(layer.rate))
        if pools_two_by_two(layer):
            return layers.max_pool(arguments[0])
        if batch_norm.is_trained(layer):
            return _normalised(layer, arguments[0], current)
        if is_augmentation(layer):
            return current.augmentation.apply(layer, arguments[0])
        options.pop("training", None)
        if "training" in inspect.signature(layer.call).parameters:
            options["training"] = current.dropout.training
        with _in_place_of_variables(layer, current.tensors):
            return layer(*arguments, **options)


def _normalised(layer: Any, inputs: Any, current: _Pass) -> Any:
    """Batch normalization that is trained; a layer that runs twice moves its statistics twice."""

    def tensor(variable: Any) -> Any:
        return None if variable is None else current.moved.get(id(variable), current.tensors[id(variable)])

    before = Statistics(tensor(layer.moving_mean), tensor(layer.moving_variance))
    outputs, after = batch_norm.normalise(
        layer, inputs, tensor(layer.gamma), tensor(layer.beta), before, training=current.dropout.training
    )
    current.moved.update({id(layer.moving_mean): after.mean, id(layer.moving_variance): after.variance})
    return outputs


class _Everywhere(dict[str, Any]):
    """Gives each tensor as a list from which it can be popped."""

    def __getitem__(self, key: str) -> Any:
        return [super().__getitem__(key)]


@contextmanager
def _in_place_of_variables(layer: Any, tensors: dict[int, Any]) -> Iterator[None]:
    """While it is open, the attributes of ``layer`` and of layers in it that are variables are the given tensors.

    Tensors that a layer computed when it was built become constants of the graph, which the worker has, too.
    """
    replaced = []
    for part in (layer, *layer.submodules):
        for name, value in list(vars(part).items()):
            if isinstance(value, tf.Variable) and id(value) in tensors:
                replaced.append((part, name, value))
                vars(part)[name] = tensors[id(value)]
            elif tf.is_tensor(value) and hasattr(value, "numpy") and not isinstance(value, tf.Variable):
                replaced.append((part, name, value))
                vars(part)[name] = tf.constant(value.numpy())
    try:
        yield
    finally:
        for part, name, value in replaced:
            vars(part)[name] = value
