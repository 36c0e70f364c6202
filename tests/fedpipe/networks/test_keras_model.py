"""Keras models as networks: what Keras computes, from weights that are given, and refusals of what is no function."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from fedpipe.contracts.model import MODELS
from fedpipe.errors import PipelineError
from fedpipe.models import keras_file
from fedpipe.networks.augmentation import Augmentation
from fedpipe.networks.dropout import Dropout
from fedpipe.networks.keras_model import KerasNetwork
from fedpipe.networks.network import network, scale
from fedpipe.networks.spec import ModelSpec
from fedpipe.networks.weights import load_weights, save_weights

L = tf.keras.layers
SPEC = ModelSpec("keras_cnn", (28, 28, 1), 10, MODELS.of("keras_cnn").Params())


def stack(*layers: Any) -> Callable[[ModelSpec], Any]:
    return lambda spec: tf.keras.Sequential([L.Input(spec.image_shape), *layers])


def fused_pooling(spec: ModelSpec) -> Any:
    return stack(L.Conv2D(8, 3, activation="relu"), L.MaxPooling2D(2), L.Flatten(), L.Dense(10))(spec)


def pooling_alone(spec: ModelSpec) -> Any:
    # The gradient of swish is one of TensorFlow's custom ones.
    return stack(L.Conv2D(8, 5, activation="swish"), L.MaxPooling2D(2), L.Flatten(), L.Dense(10))(spec)


def without_input(spec: ModelSpec) -> Any:
    return tf.keras.Sequential([L.Flatten(), L.LayerNormalization(), L.Dense(12, "gelu"), L.PReLU(), L.Dense(10)])


def residual(spec: ModelSpec) -> Any:
    """Branches, a model in the model, arithmetic on tensors, and layers with several weights."""
    inputs = L.Input(spec.image_shape)
    x = L.Conv2D(8, 3, padding="same", activation="relu")(inputs)
    inner = tf.keras.Sequential([L.InputLayer(x.shape[1:]), L.Conv2D(8, 3, padding="same"), L.GroupNormalization(4)])
    y = L.Add()([x, inner(x)]) * 0.5 + x
    y = L.SeparableConv2D(6, 3)(L.DepthwiseConv2D(3)(y))
    return tf.keras.Model(inputs, L.Dense(spec.classes)(L.GlobalAveragePooling2D()(y)))


def shared(spec: ModelSpec) -> Any:
    """A layer that runs twice, and a tensor that is used twice."""
    inputs, layer = L.Input(spec.image_shape), L.Conv2D(1, 3, padding="same", activation="relu")
    x = L.MaxPooling2D(2)(layer(layer(inputs)))
    return tf.keras.Model(inputs, L.Dense(10)(L.Flatten()(L.Concatenate()([x, x]))))


def recurrent(spec: ModelSpec) -> Any:
    return stack(L.Reshape((28, 28)), L.GRU(8), L.Dense(10))(spec)


@pytest.mark.parametrize("build", [fused_pooling, pooling_alone, without_input, residual, shared, recurrent])
def test_values_and_gradients_are_those_of_keras(
    build: Callable[[ModelSpec], Any], training_set: tuple[np.ndarray, np.ndarray]
) -> None:
    images, labels = scale(tf.constant(training_set[0][:20])), training_set[1][:20].astype(np.int32)
    built: list[Any] = []

    def once(spec: ModelSpec) -> Any:
        built.append(build(spec))
        return built[0]

    keras = KerasNetwork(SPEC, once)
    before = [variable.numpy() for variable in built[0].trainable_weights]
    weights = keras.first_weights(np.random.default_rng(5))

    @tf.function
    def ours(w: list[tf.Tensor]) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(w)
            logits = keras.forward(w, images, Dropout())
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        return logits, tape.gradient(loss, w)

    logits, gradients = ours([tf.constant(w) for w in weights])
    # Keras's own variables are neither read nor written.
    for variable, value in zip(built[0].trainable_weights, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    variables = [variable for _, variable in keras._slots]
    for variable, weight in zip(variables, weights, strict=True):
        variable.assign(weight)
    with tf.GradientTape() as tape:
        wanted = built[0](images, training=False)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, wanted))
    np.testing.assert_allclose(logits, wanted, atol=1e-5)
    for mine, theirs in zip(gradients, tape.gradient(loss, variables), strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(mine), tf.convert_to_tensor(theirs), atol=1e-5)


@pytest.mark.parametrize(
    "end", [[L.Dense(10, "softmax")], [L.Dense(10), L.Softmax()], [L.Dense(10), L.Activation("softmax")]]
)
def test_a_softmax_at_the_end_is_taken_off(end: list[Any]) -> None:
    keras = KerasNetwork(SPEC, stack(L.Flatten(), *end))
    kernel, bias = keras.first_weights(np.random.default_rng(0))
    image = np.full((1, 28, 28, 1), 0.5, np.float32)
    logits = keras.forward([tf.constant(kernel), tf.constant(bias)], tf.constant(image), Dropout())
    np.testing.assert_allclose(logits, image.reshape(1, -1) @ kernel + bias, rtol=1e-5)


def test_dropout_draws_from_the_seed_alone() -> None:
    model = network(ModelSpec("keras_cnn", (28, 28, 1), 10, MODELS.of("keras_cnn").Params(dropout=0.5)))
    weights = [tf.constant(w) for w in model.first_weights(np.random.default_rng(0))]
    image = tf.ones([2, 28, 28, 1])
    step = tf.function(lambda seed: model.forward(weights, image, Dropout(seed)))
    first, again, other = (step(tf.constant(seed, tf.int32)).numpy() for seed in ([1, 2], [1, 2], [1, 3]))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    whole = tf.function(lambda: model.forward(weights, image, Dropout()))().numpy()
    assert (whole != first).any() and (whole[0] == whole[1]).all()


AUGMENTATIONS = {
    "flip": L.RandomFlip(),
    "rotation": L.RandomRotation(0.2),
    "translation": L.RandomTranslation(0.2, 0.2),
    "zoom": L.RandomZoom(0.3),
    "crop": L.RandomCrop(20, 20),
    "contrast": L.RandomContrast(0.5),
    "brightness": L.RandomBrightness(0.3, value_range=(0, 1)),
}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentation_draws_from_the_seed_alone(name: str, training_set: tuple[np.ndarray, np.ndarray]) -> None:
    """In training by stateless draws, in evaluation as Keras has it."""
    layer = AUGMENTATIONS[name]
    augmented = Augmentation()
    images = scale(tf.constant(training_set[0][:9]))
    keras = KerasNetwork(SPEC, stack(layer, L.Flatten(), D(10)))
    weights = [tf.constant(w) for w in keras.first_weights(np.random.default_rng(0))]

    @tf.function
    def step(seed: Any) -> Any:
        return keras.train_forward(weights, images, Dropout(seed), Augmentation(seed))[0]

    first, again, other = (step(tf.constant(seed, tf.int32)).numpy() for seed in ([1, 2], [1, 2], [1, 3]))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_array_equal(augmented.apply(layer, images), layer(images, training=False))
    drawn = Augmentation(tf.constant([4, 5])).apply(layer, images)
    assert drawn.shape[1:] == layer.compute_output_shape(images.shape)[1:] and (drawn.numpy() >= 0).all()
    assert name == "crop" or (drawn.numpy() != images.numpy()).any()


def test_a_flip_is_of_each_image_and_a_crop_is_a_part(training_set: tuple[np.ndarray, np.ndarray]) -> None:
    images = scale(tf.constant(training_set[0][:40])).numpy()
    flipped = Augmentation(tf.constant([1, 2])).apply(L.RandomFlip("horizontal"), images).numpy()
    mirrored = [bool((a == b[:, ::-1]).all()) for a, b in zip(flipped, images, strict=True)]
    same = [bool((a == b).all()) for a, b in zip(flipped, images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True)) and 10 < sum(mirrored) < 30
    part = Augmentation(tf.constant([1, 2])).apply(L.RandomCrop(20, 24), images).numpy()
    places = [(top, left) for top in range(9) for left in range(5)]
    assert any((part == images[:, top : top + 20, left : left + 24]).all() for top, left in places)


def test_batch_normalization_in_training_is_that_of_keras(training_set: tuple[np.ndarray, np.ndarray]) -> None:
    """Outputs, gradients and moved statistics, of images and of vectors, with and without scale; one layer twice."""
    built: list[Any] = []

    def build(spec: ModelSpec) -> Any:
        twice = L.BatchNormalization(momentum=0.8)
        inner = stack(L.Conv2D(4, 3), L.BatchNormalization(), L.ReLU(), L.Flatten(), D(6), twice, D(6), twice)(spec)
        end = [L.BatchNormalization(scale=False), D(10)]
        built.append(tf.keras.Sequential([L.Input(spec.image_shape), inner, *end]))
        return built[-1]

    keras = KerasNetwork(SPEC, build)
    images, labels = scale(tf.constant(training_set[0][:7])), training_set[1][:7].astype(np.int32)
    weights = keras.first_weights(np.random.default_rng(5))
    keras.with_weights(weights)
    model = built[0]

    def loss(logits: Any) -> Any:
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))

    @tf.function
    def ours(w: list[Any]) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(w)
            logits, statistics = keras.train_forward(w, images, Dropout(tf.constant([1, 2])), Augmentation())
            value = loss(logits)
        return logits, tape.gradient(value, w), statistics

    logits, gradients, statistics = ours([tf.constant(w) for w in weights])
    with tf.GradientTape() as tape:
        wanted = model(images, training=True)
        value = loss(wanted)
    np.testing.assert_allclose(logits, wanted, atol=1e-4)
    theirs = dict(zip(map(id, model.trainable_variables), tape.gradient(value, model.trainable_variables), strict=True))
    variables = [variable for _, variable in keras._slots]
    for variable, mine in zip(variables, gradients, strict=True):
        assert (mine is None) == (id(variable) not in theirs)
        if mine is not None:
            np.testing.assert_allclose(mine, theirs[id(variable)], atol=1e-4)
    moved = [variable for variable in variables if not variable.trainable]
    assert len(statistics) == len(keras.statistics) == len(moved) == 6
    for mine, variable in zip(statistics, moved, strict=True):
        np.testing.assert_allclose(mine, variable.numpy(), atol=1e-5)


def test_names_and_first_weights_depend_on_model_and_seed_alone() -> None:
    """Keras counts the layers of a process in their names, and draws its own weights anew each time."""
    built, again = network(SPEC), network(SPEC)
    assert list(built.shapes) == list(again.shapes)
    assert list(built.shapes)[:2] == ["1_conv2d/kernel", "1_conv2d/bias"] and built.parameters == 12_810
    first, second = (model.first_weights(np.random.default_rng(7)) for model in (built, again))
    assert all((a == b).all() and a.dtype == np.float32 for a, b in zip(first, second, strict=True))
    scales = KerasNetwork(SPEC, stack(L.LayerNormalization(), L.Flatten(), L.Dense(10)))
    assert scales.first_weights(np.random.default_rng(7))[0] == 1.0


class KeepsAList(L.Layer):
    def build(self, shape: Any) -> None:
        self.kernels = [self.add_weight("kernel", (shape[-1], 10))]

    def call(self, inputs: Any) -> Any:
        return inputs @ self.kernels[0]


class Subclass(tf.keras.Model):
    def call(self, inputs: Any) -> Any:
        return tf.reshape(inputs, [-1, 784])[:, :10]


def two_outputs(spec: ModelSpec) -> Any:
    inputs = L.Input(spec.image_shape)
    return tf.keras.Model(inputs, [L.Dense(10)(L.Flatten()(inputs)), L.Flatten()(inputs)])


D = L.Dense
REFUSED = {
    "batch norm of two axes": (stack(L.BatchNormalization(axis=[1, 3]), L.Flatten(), D(10)), "several axes, renorm"),
    "batch norm in a layer": (
        stack(L.Reshape((4, 14, 14)), L.TimeDistributed(L.BatchNormalization()), L.Flatten(), D(10)),
        "statistics nobody would average",
    ),
    "other sizes": (stack(L.RandomHeight(0.1), L.GlobalMaxPooling2D(), D(10)), "changes the size of images: use one"),
    "noise": (stack(L.GaussianNoise(0.1), L.Flatten(), D(10)), "RandomStandardNormal.*use Dropout"),
    "spatial dropout": (stack(L.SpatialDropout2D(0.1), L.Flatten(), D(10)), "use Dropout"),
    "a frozen layer": (stack(L.Flatten(), D(5, trainable=False), D(10)), "set its trainable to True"),
    "a regularizer": (stack(L.Flatten(), D(10, kernel_regularizer="l2")), "train.client_optimizer.weight_decay"),
    "a constraint": (stack(L.Flatten(), D(10, kernel_constraint="max_norm")), "leave it out"),
    "half precision": (stack(L.Flatten(), D(10, dtype="float16")), "use float32"),
    "relu at the end": (stack(L.Flatten(), D(10, "relu")), "no activation or with softmax"),
    "weights in a list": (stack(L.Flatten(), KeepsAList()), "in an attribute of its layer"),
    "nine classes": (stack(L.Flatten(), D(9)), r"gives \(None, 9\).*\(None, 10\)"),
    "other images": (lambda spec: tf.keras.Sequential([L.Input((8, 8, 3)), L.Flatten(), D(10)]), "takes .*28, 28, 1"),
    "small images": (stack(L.Conv2D(4, 31), L.Flatten(), D(10)), "cannot be built for 28x28x1 images"),
    "a subclass": (lambda spec: Subclass(), "tf.keras.Sequential or with the functional API"),
    "two outputs": (two_outputs, "2 outputs"),
    "no model": (lambda spec: None, "return a tf.keras.Model"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_function_of_weights_and_images_is_refused(case: str) -> None:
    build, reason = REFUSED[case]
    with pytest.raises(PipelineError, match=reason) as refusal:
        KerasNetwork(SPEC, build)
    assert "\n" not in str(refusal.value)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[tf.keras.Model, ModelSpec]:
    """A model that was trained elsewhere, in a file."""
    model = stack(L.Conv2D(4, 3, activation="relu"), L.MaxPooling2D(2), L.Flatten(), D(10, "softmax"))(SPEC)
    model.compile("adam", "sparse_categorical_crossentropy")
    path = tmp_path / "start.keras"
    model.save(path)
    params = keras_file.Params(path=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    return model, ModelSpec("keras_file", (28, 28, 1), 10, params)


def test_a_file_gives_layers_and_first_weights(
    saved: tuple[Any, ModelSpec], training_set: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    theirs, spec = saved
    model = network(spec)
    weights = model.first_weights(np.random.default_rng(0))
    images = training_set[0][:50]
    np.testing.assert_allclose(model.predictor(weights)(images), theirs.predict(images / 255, verbose=0), atol=1e-5)
    save_weights(tmp_path / "weights.safetensors", model, weights)
    Path(spec.params.path).unlink()  # as on a machine that serves the model
    again, same = load_weights(tmp_path / "weights.safetensors")
    assert again.spec.params == spec.params
    np.testing.assert_array_equal(again.predictor(same)(images), model.predictor(weights)(images))


def test_weights_of_a_file_that_are_not_trained_are_constants(tmp_path: Path) -> None:
    """Frozen layers, frozen batch normalization, adapted means: as Keras computes them, and kept with the weights."""
    rng = np.random.default_rng(4)
    normalise, frozen, batch = L.Normalization(axis=None), L.Conv2D(4, 3, activation="relu"), L.BatchNormalization()
    normalise.adapt(rng.random((50, 28, 28, 1)))
    theirs = stack(normalise, frozen, L.MaxPooling2D(2), batch, L.Flatten(), D(10, "softmax"))(SPEC)
    batch.moving_mean.assign(rng.random(4))
    frozen.trainable = batch.trainable = False
    path = tmp_path / "start.keras"
    theirs.save(path)
    params = keras_file.Params(path=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    model = network(ModelSpec("keras_file", (28, 28, 1), 10, params))
    assert list(model.shapes) == ["6_dense/kernel", "6_dense/bias"] and len(model.spec.constants or {}) == 9
    weights = model.first_weights(rng)
    images = rng.integers(0, 256, (5, 28, 28, 1), np.uint8)
    np.testing.assert_allclose(model.predictor(weights)(images), theirs.predict(images / 255, verbose=0), atol=1e-5)
    save_weights(tmp_path / "weights.safetensors", model, weights)
    path.unlink()
    again, same = load_weights(tmp_path / "weights.safetensors")
    np.testing.assert_array_equal(again.predictor(same)(images), model.predictor(weights)(images))


def test_large_constants_of_a_layer_are_in_the_graph() -> None:
    """A worker has the graph only, and no tensor of this process."""
    values = {"mean": np.full((28, 28, 1), 0.25), "variance": np.full((28, 28, 1), 4.0)}
    keras = KerasNetwork(SPEC, stack(L.Normalization(axis=(1, 2, 3), **values), L.Flatten(), D(10)))
    traced = tf.function(lambda w, x: keras.forward(w, x, Dropout()))
    weights = [tf.TensorSpec(shape) for shape in keras.shapes.values()]
    assert not traced.get_concrete_function(weights, tf.TensorSpec((None, 28, 28, 1))).captured_inputs


def test_a_file_that_is_not_as_pinned_is_refused(saved: tuple[Any, ModelSpec], tmp_path: Path) -> None:
    _, spec = saved
    path = Path(spec.params.path)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(PipelineError, match=r"start.keras has the SHA-256 .*train.keras_file.sha256"):
        network(spec)
    path.unlink()
    with pytest.raises(PipelineError, match=r"train.keras_file.path.*cannot be read \(No such file"):
        network(spec)
    path.write_bytes(b"no zip")
    params = keras_file.Params(path=str(path), sha256=hashlib.sha256(b"no zip").hexdigest())
    with pytest.raises(PipelineError, match=r"which is no .keras file: save the model with"):
        network(ModelSpec("keras_file", (28, 28, 1), 10, params))


def test_a_file_with_layers_of_its_own_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.keras"
    stack(L.Flatten(), KeepsAList())(SPEC).save(path)
    params = keras_file.Params(path=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(
        PipelineError, match=r"KeepsAList, which fedpipe takes from no file.* a function keras_model"
    ) as refusal:
        network(ModelSpec("keras_file", (28, 28, 1), 10, params))
    assert "\n" not in str(refusal.value)
