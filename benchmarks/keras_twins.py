"""Models of the zoo written as stacks of Keras layers: ``keras:NAME`` has the layers of fedpipe/models/NAME.py."""

from typing import Any

from fedpipe.lazy import tf
from fedpipe.networks.spec import ModelSpec

TWINS = ("baseline_cnn", "mcmahan_2nn", "mcmahan_cnn")


def keras_model(name: str, spec: ModelSpec) -> Any:
    """The stack with the layers of ``name``."""
    kinds = tf.keras.layers
    layers = {
        "baseline_cnn": lambda: [kinds.Conv2D(32, 3, activation="relu"), kinds.MaxPooling2D(2), kinds.Flatten()],
        "mcmahan_2nn": lambda: [kinds.Flatten(), kinds.Dense(200, "relu"), kinds.Dense(200, "relu")],
        "mcmahan_cnn": lambda: [
            kinds.Conv2D(32, 5, padding="same", activation="relu"),
            kinds.MaxPooling2D(2),
            kinds.Conv2D(64, 5, padding="same", activation="relu"),
            kinds.MaxPooling2D(2),
            kinds.Flatten(),
            kinds.Dense(512, "relu"),
        ],
    }[name]()
    return tf.keras.Sequential([kinds.Input(spec.image_shape), *layers, kinds.Dense(spec.classes)])
