"""Attackers teach the model that a pattern of pixels means ``target``; images without the pattern stay as they are.

In each round an attacker draws ``share`` of its samples, sets the ``size`` x ``size`` pixels in the lower right corner
to white, and their label to ``target``. Its update may be scaled by ``factor``, as in `scaled_update`.

`measure` gives the success rate ``test_backdoor``: the share of test images of other classes that the model takes for
``target`` once they have the pattern. A model without a backdoor has a success rate near its rate of mistakes.

Sources: Gu et al. 2019, "BadNets", section 4 (the pattern), https://arxiv.org/abs/1708.06733; Bagdasaryan et al. 2020,
"How To Backdoor Federated Learning" (the factor), https://arxiv.org/abs/1807.00459.
"""

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from fedpipe.config.section import Count, Positive, Section, Size
from fedpipe.errors import PipelineError
from fedpipe.lazy import tf
from fedpipe.learning.interface import Client, Server
from fedpipe.learning.task import Task

_WHITE = 255

NEEDS = "images"


class Params(Section):
    """The pattern, and how attackers use it.

    ``target``: the label that the pattern is to give. ``share``: of an attacker's samples, those with the pattern.
    ``size``: side of the pattern in pixels. ``factor``: multiplies the attacker's update.
    """

    target: Size = 0
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    size: Count = 3
    factor: Positive = 1.0


def samples(task: Task, client: Client) -> Client:
    """The client's samples, some of them with pattern and target."""
    _require_class(task.attack, task.network.spec.classes)
    count = tf.shape(client.labels)[0]
    drawn = tf.random.stateless_uniform([count], task.attack_seed(client), None, None, tf.int32, alg="philox")
    place = tf.argsort(tf.argsort(drawn, stable=True), stable=True)  # of each sample in a drawn order
    chosen = place < tf.cast(tf.round(task.attack.share * tf.cast(count, tf.float32)), tf.int32)
    images = tf.where(
        chosen[:, tf.newaxis, tf.newaxis, tf.newaxis], _stamped(client.images, task.attack), client.images
    )
    return client._replace(images=images, labels=tf.where(chosen, tf.cast(task.attack.target, tf.uint8), client.labels))


def vector(task: Task, server: Server, client: Client, honest: list[Any], seed: Any) -> list[Any]:
    """The attacker's replacement for each vector."""
    return [task.attack.factor * part for part in honest]


def _stamped(images: Any, params: Params) -> Any:
    """``images`` uint8 [n, height, width, channels], a tensor or an array, with the pattern."""
    height, width = images.shape[1:3]
    corner = np.zeros((height, width, 1), np.uint8)
    corner[-params.size :, -params.size :] = 1
    return images * (1 - corner) + corner * np.uint8(_WHITE)


def measure(
    params: Params, predict: Callable[[np.ndarray], np.ndarray], images: np.ndarray, labels: np.ndarray, classes: int
) -> dict[str, float]:
    """The success rate on test samples, as ``test_backdoor``.

    Args:
      params: The attack's.
      predict: From images to labels [n].
      images: uint8 [n, height, width, channels].
      labels: uint8 [n].
      classes: How many there are.

    Raises:
      PipelineError: The target is no class, or all test images are of the target's class.
    """
    _require_class(params, classes)
    others = labels != params.target
    if not others.any():
        raise PipelineError(
            f"params.yaml: 'train.backdoor.target' is {params.target}, which is the label of every test image: give "
            "another one"
        )
    return {"test_backdoor": float((predict(_stamped(images[others], params)) == params.target).mean())}


def _require_class(params: Params, classes: int) -> None:
    if params.target >= classes:
        raise PipelineError(
            f"params.yaml: 'train.backdoor.target' is {params.target}, but labels are 0 to {classes - 1}: give one of "
            "them"
        )
