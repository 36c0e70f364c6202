"""The model zoo: pure functions of a list of weights, and the file that weights live in.

| name        | layers                                                                   | weights   |
| ----------- | ------------------------------------------------------------------------ | --------- |
| seed_cnn    | Conv 32 3x3 - MaxPool 2x2 - Dense 10 (the seed recipe)                   |    54,410 |
| mcmahan_2nn | Dense 200 - Dense 200 - Dense 10                                         |   199,210 |
| mcmahan_cnn | Conv 32 5x5 - MaxPool - Conv 64 5x5 - MaxPool - Dense 512 - Dense 10     | 1,663,370 |

(for 28x28 gray images and 10 classes; hidden layers are relu). The last two are those of McMahan et al. 2017,
"Communication-Efficient Learning of Deep Networks from Decentralized Data", section 3.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fedpipe.atomic import atomic_file
from fedpipe.errors import PipelineError
from fedpipe.models.layers import convolve_relu_pool

Weights = list[np.ndarray]
Forward = Callable[[list[tf.Tensor], tf.Tensor], tf.Tensor]

_METADATA_KEY = "fedpipe"  # one key only: safetensors does not keep the order of several


@dataclass(frozen=True)
class ModelSpec:
    """What it takes to build a model: its name in the zoo, the image shape [h, w, c], the number of classes."""

    model: str
    image_shape: tuple[int, int, int]
    classes: int


@dataclass(frozen=True)
class Architecture:
    """A model of the zoo for one image shape: the weights' names and shapes in order, and the forward pass.

    ``forward`` maps weights and float32 images [n, h, w, c] in [0, 1] to logits float32 [n, classes].
    """

    shapes: dict[str, tuple[int, ...]]
    forward: Forward


def architecture(spec: ModelSpec) -> Architecture:
    """The model that ``spec`` names.

    Raises:
      PipelineError: The images are too small for it.
    """
    check_image_size(spec.model, spec.image_shape)
    return _ZOO[spec.model](spec)


def check_image_size(model: str, image_shape: tuple[int, int, int]) -> None:
    """Raises PipelineError if images [h, w, c] are so small that a pooling of ``model`` would leave nothing of them."""
    height, width, _ = image_shape
    smallest = _SMALLEST_SIDE[model]
    if min(height, width) < smallest:
        raise PipelineError(
            f"params.yaml: 'train.model' is {model}, which takes images of at least {smallest} x {smallest} pixels, "
            f"but the data set's are {height} x {width}; mcmahan_2nn takes any size"
        )


def _seed_cnn(spec: ModelSpec) -> Architecture:
    height, width, channels = spec.image_shape
    flat = ((height - 2) // 2) * ((width - 2) // 2) * 32

    def forward(w: list[tf.Tensor], images: tf.Tensor) -> tf.Tensor:
        pooled = convolve_relu_pool(images, w[0], w[1], "VALID")
        return _dense(tf.reshape(pooled, [-1, flat]), w[2], w[3])

    shapes = {"conv/kernel": (3, 3, channels, 32), "conv/bias": (32,)} | _dense_shapes("dense", flat, spec.classes)
    return Architecture(shapes, forward)


def _mcmahan_2nn(spec: ModelSpec) -> Architecture:
    pixels = int(np.prod(spec.image_shape))

    def forward(w: list[tf.Tensor], images: tf.Tensor) -> tf.Tensor:
        hidden = tf.nn.relu(_dense(tf.reshape(images, [-1, pixels]), w[0], w[1]))
        return _dense(tf.nn.relu(_dense(hidden, w[2], w[3])), w[4], w[5])

    shapes = _dense_shapes("dense1", pixels, 200) | _dense_shapes("dense2", 200, 200)
    return Architecture(shapes | _dense_shapes("dense3", 200, spec.classes), forward)


def _mcmahan_cnn(spec: ModelSpec) -> Architecture:
    height, width, channels = spec.image_shape
    flat = (height // 4) * (width // 4) * 64

    def forward(w: list[tf.Tensor], images: tf.Tensor) -> tf.Tensor:
        pooled = convolve_relu_pool(images, w[0], w[1], "SAME")
        pooled = convolve_relu_pool(pooled, w[2], w[3], "SAME")
        hidden = tf.nn.relu(_dense(tf.reshape(pooled, [-1, flat]), w[4], w[5]))
        return _dense(hidden, w[6], w[7])

    shapes: dict[str, tuple[int, ...]] = {"conv1/kernel": (5, 5, channels, 32), "conv1/bias": (32,)}
    shapes |= {"conv2/kernel": (5, 5, 32, 64), "conv2/bias": (64,)}
    return Architecture(
        shapes | _dense_shapes("dense1", flat, 512) | _dense_shapes("dense2", 512, spec.classes), forward
    )


_ZOO: dict[str, Callable[[ModelSpec], Architecture]] = {
    "seed_cnn": _seed_cnn,
    "mcmahan_2nn": _mcmahan_2nn,
    "mcmahan_cnn": _mcmahan_cnn,
}


# seed_cnn: a 3x3 convolution without padding and one pooling; mcmahan_cnn: two poolings.
_SMALLEST_SIDE = {"seed_cnn": 4, "mcmahan_2nn": 1, "mcmahan_cnn": 4}


def _dense(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    return tf.matmul(x, kernel) + bias


def _dense_shapes(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}/kernel": (inputs, outputs), f"{name}/bias": (outputs,)}


def scale(images: tf.Tensor) -> tf.Tensor:
    """uint8 pixels to float32 in [0, 1]."""
    return tf.cast(images, tf.float32) / 255.0


def initial_weights(spec: ModelSpec, rng: np.random.Generator) -> Weights:
    """Glorot-uniform kernels and zero biases, float32.

    Source: Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural
    networks", equation 16: U(-limit, limit) with limit = sqrt(6 / (fan in + fan out)).
    """
    weights = []
    for shape in architecture(spec).shapes.values():
        if len(shape) == 1:
            weights.append(np.zeros(shape, np.float32))
            continue
        receptive_field = int(np.prod(shape[:-2]))
        limit = np.sqrt(6 / (receptive_field * (shape[-2] + shape[-1])))
        weights.append(rng.uniform(-limit, limit, shape).astype(np.float32))
    return weights


def save_weights(path: Path, spec: ModelSpec, weights: Weights) -> None:
    """Writes ``weights`` with what is needed to use them; equal weights give equal files."""
    tensors = dict(zip(architecture(spec).shapes, weights, strict=True))
    with atomic_file(path) as partial:
        partial.write_bytes(save(tensors, {_METADATA_KEY: json.dumps(asdict(spec))}))


def load_weights(path: Path) -> tuple[ModelSpec, Weights]:
    """Reads what `save_weights` wrote.

    Raises:
      PipelineError: The file is missing, cut short, or not such a file.
    """
    try:
        with safe_open(str(path), framework="numpy") as file:
            stored = json.loads((file.metadata() or {})[_METADATA_KEY])
            spec = ModelSpec(stored["model"], tuple(stored["image_shape"]), stored["classes"])
            shapes = architecture(spec).shapes
            weights = [file.get_tensor(name) for name in shapes]
        for name, weight in zip(shapes, weights, strict=True):
            if weight.shape != shapes[name] or not np.isfinite(weight).all():
                raise ValueError(f"{name} is not finite or not of shape {shapes[name]}")
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing: run the train stage first (dvc repro)") from None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise PipelineError(f"{path} is not a file of weights ({error}): run the train stage again") from None
    return spec, weights


def classifier(spec: ModelSpec, weights: Weights) -> Callable[[np.ndarray], np.ndarray]:
    """A function from uint8 images [n, h, w, c] to logits float32 [n, classes]."""
    forward, constants = architecture(spec).forward, [tf.constant(w) for w in weights]

    @tf.function(input_signature=[tf.TensorSpec([None, *spec.image_shape], tf.uint8)])
    def logits(images: tf.Tensor) -> tf.Tensor:
        return forward(constants, scale(images))

    def classify(images: np.ndarray) -> np.ndarray:
        if not len(images):  # oneDNN's kernels refuse an empty batch
            return np.empty((0, spec.classes), np.float32)
        return logits(images).numpy()

    return classify


def predictor(spec: ModelSpec, weights: Weights) -> Callable[[np.ndarray], np.ndarray]:
    """A function from uint8 images [n, h, w, c] to class probabilities float32 [n, classes]."""
    classify = classifier(spec, weights)
    return lambda images: tf.nn.softmax(classify(images)).numpy()
