"""How much clients train, and how much their classes count: `local_steps` and `class_weights`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpipe.errors import PipelineError
from fedpipe.runtime.worker import Worker
from tests.fedpipe.training import first_weights, run, same_bits, train_settings

SMALL: dict[str, Any] = {"model": "logistic_regression", "batch_size": 5}


@pytest.mark.parametrize("shuffle", [False, True])
def test_steps_are_those_of_epochs_where_clients_have_as_many(make_shards: Any, worker: Worker, shuffle: bool) -> None:
    shards = make_shards([13, 12])  # three batches each
    epochs = run(worker, train_settings(**SMALL, shuffle=shuffle, local_epochs=2), shards, [[0, 1]] * 2)
    steps = run(worker, train_settings(**SMALL, shuffle=shuffle, local_steps=6), shards, [[0, 1]] * 2)
    assert same_bits(epochs.weights, steps.weights)


def test_each_client_takes_as_many_steps_whatever_its_size(make_shards: Any, worker: Worker) -> None:
    ended = run(worker, train_settings(**SMALL, local_steps=4), make_shards([3, 12, 0]), [[0, 1, 2]])
    # Four batches of three; five, five, two and five samples; no step without samples.
    assert ended.rounds[0]["seen"] == 12 + 17 and ended.rounds[0]["clients"] == 2


def test_steps_and_epochs_together_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'train.local_steps' \(4\) takes the place of 'train.local_epochs'"):
        train_settings(local_steps=4, local_epochs=2)
    with pytest.raises(ValueError, match=r"fed_sgd takes no local steps: remove 'train.local_steps'"):
        train_settings(local_steps=4, algorithm="fed_sgd")


def test_class_weights(make_shards: Any, worker: Worker) -> None:
    """Weights of 1.0 change no bit; a class of weight 0.0 teaches nothing; the loss is weighted, too."""
    shards, cohorts = make_shards([8, 8]), [[0, 1]]
    plain = run(worker, train_settings(**SMALL), shards, cohorts)
    equal = run(worker, train_settings(**SMALL, class_weights=[1.0] * 10), shards, cohorts)
    assert same_bits(plain.weights, equal.weights) and plain.rounds[0]["loss"] == equal.rounds[0]["loss"]
    settings = train_settings(**SMALL, class_weights=[*[0.0] * 9, 2.0])
    without = run(worker, settings, make_shards([1]), [[0]])  # MNIST's first image is a five
    assert same_bits(without.weights, first_weights(settings)) and without.rounds[0]["loss"] == 0
    doubled = run(worker, train_settings(**SMALL, class_weights=[2.0] * 10), make_shards([5]), [[0]])
    single = run(worker, train_settings(**SMALL), make_shards([5]), [[0]])
    moved, moved_once = (ended.weights[0] - first_weights(settings)[0] for ended in (doubled, single))
    np.testing.assert_allclose(moved, 2 * moved_once, rtol=1e-3, atol=1e-7)


def test_class_weights_of_another_number_of_classes(small_images: Path, worker: Worker) -> None:
    with pytest.raises(PipelineError, match=r"'train.class_weights' has 3 weights, and the data set has 10 classes"):
        run(worker, train_settings(**SMALL, class_weights=[1.0] * 3), small_images, [[1]])
    with pytest.raises(ValueError, match=r"'train.class_weights' are all 0.0"):
        train_settings(class_weights=[0.0, 0.0])
