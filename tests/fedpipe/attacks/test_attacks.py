"""What attackers train on and send, and how well a backdoor works."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fedpipe.contracts.attack import ATTACKS
from fedpipe.evaluation import global_model
from fedpipe.lazy import tf
from fedpipe.learning.attackers import attackers
from fedpipe.learning.interface import Client
from fedpipe.learning.task import Task
from fedpipe.runtime.cohort import cohort
from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms import reference
from tests.fedpipe.algorithms.reference import Samples, Weights
from tests.fedpipe.training import first_weights, model_of, run, same_bits, train_settings

Make = Callable[[list[int]], Path]
SIZES = [30, 20, 45, 25, 10, 20]
CLIENTS = len(SIZES)


def attacked(**changes: Any) -> Any:
    return train_settings(**reference.TRAINING, attackers=0.34, **changes)


def changed(settings: Any, samples: Any, client: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What an attack makes of samples."""
    task = Task(model_of(settings), settings, CLIENTS)
    inputs = Client(*(tf.constant(part) for part in samples), tf.constant(client), tf.constant(1))
    other = ATTACKS.of(settings.attack).samples(task, inputs)
    return other.images.numpy(), other.labels.numpy()


@pytest.mark.parametrize(
    ("name", "section", "expected"),
    [
        ("sign_flip", {"scale": 3.0}, lambda update: [-3 * part for part in update]),
        ("scaled_update", {"factor": 5.0}, lambda update: [5 * part for part in update]),
    ],
)
def test_attackers_send_what_their_formula_says(
    worker: Worker, make_shards: Make, name: str, section: Any, expected: Any
) -> None:
    settings, shards = attacked(attack=name, **{name: section}), make_shards(SIZES)
    ended = run(worker, settings, shards, [range(CLIENTS)])
    evil = attackers(settings, CLIENTS)
    assert evil.sum() == 2
    start = first_weights(settings)
    updates = [reference.sgd(start, reference.samples_of(shards, k), settings)[0] for k in range(CLIENTS)]
    sent = [expected(update) if evil[k] else update for k, update in enumerate(updates)]
    reference.assert_close(ended.weights, reference.moved(start, reference.mean(sent, SIZES)))


def test_attackers_train_on_flipped_labels(worker: Worker, make_shards: Make) -> None:
    settings, shards = attacked(attack="label_flip"), make_shards(SIZES)
    ended = run(worker, settings, shards, [range(CLIENTS)])
    evil, start = attackers(settings, CLIENTS), first_weights(settings)

    def update(client: int) -> Weights:
        samples = reference.samples_of(shards, client)
        return reference.sgd(start, Samples(samples.x, 9 - samples.y if evil[client] else samples.y), settings)[0]

    updates = [update(client) for client in range(CLIENTS)]
    reference.assert_close(ended.weights, reference.moved(start, reference.mean(updates, SIZES)))


def test_one_label_becomes_another(training_set: Any) -> None:
    images, labels = training_set[0][:50], training_set[1][:50]
    settings = train_settings(attack="label_flip", label_flip={"source": 7, "target": 1})
    same, others = changed(settings, (images, labels))
    np.testing.assert_array_equal(same, images)
    np.testing.assert_array_equal(others, np.where(labels == 7, 1, labels))
    assert (labels == 7).any()


def test_gaussian_updates_are_noise_of_the_given_deviation() -> None:
    """Noise of the given deviation, another for each client and round, the same when drawn again."""
    settings = attacked(attack="gaussian_update", gaussian_update={"stddev": 0.5})
    task = Task(model_of(settings), settings, CLIENTS)

    def drawn(client: int, number: int) -> np.ndarray:
        inputs: Any = SimpleNamespace(id=tf.constant(client), round=tf.constant(number))
        seed = task.attack_seed(inputs)
        made = ATTACKS.of("gaussian_update").vector(task, None, inputs, task.zeros(), seed)
        return np.concatenate([part.numpy().ravel() for part in made])

    first = drawn(3, 1)
    assert abs(first.mean()) < 0.03 and abs(first.std() - 0.5) < 0.02
    np.testing.assert_array_equal(first, drawn(3, 1))
    assert all(abs(np.corrcoef(first, other)[0, 1]) < 0.05 for other in (drawn(4, 1), drawn(3, 2)))


def test_a_backdoor_is_on_a_share_of_the_samples(training_set: Any) -> None:
    images, labels = training_set[0][:40], training_set[1][:40]
    settings = train_settings(attack="backdoor", backdoor={"target": 3, "share": 0.25, "size": 4})
    actual, others = changed(settings, (images, labels))
    marked = (actual[:, -4:, -4:] == 255).all(axis=(1, 2, 3))
    assert marked.sum() == 10 and (others[marked] == 3).all()
    np.testing.assert_array_equal(others[~marked], labels[~marked])
    np.testing.assert_array_equal(actual[~marked], images[~marked])
    actual[:, -4:, -4:] = images[:, -4:, -4:]
    np.testing.assert_array_equal(actual, images)


def test_a_backdoor_works_without_a_defence_and_leaves_clean_accuracy(
    worker: Worker, make_shards: Make, training_set: Any
) -> None:
    shards, images, labels = make_shards([40] * 10), training_set[0][5000:5500], training_set[1][5000:5500]
    samples = global_model.GlobalSamples({"test": (images, labels)}, batch_size=100)
    common: dict[str, Any] = {"attack": "backdoor", "backdoor": {"target": 2, "share": 0.5, "factor": 2.0}}
    common |= reference.TRAINING
    figures = []
    for share in (0.0, 0.3):
        settings = train_settings(**common, attackers=share)
        ended = run(worker, settings, shards, [range(10)] * 5)
        figures.append(samples.measure(model_of(settings), ended.weights, settings))
    honest, poisoned = figures
    assert honest["test_backdoor"] < 0.1 and poisoned["test_backdoor"] > 0.8
    assert poisoned["test_accuracy"] > honest["test_accuracy"] - 0.1
    predicted = model_of(settings).predictor(ended.weights)
    images = images[labels != 2].copy()
    images[:, -3:, -3:] = 255
    assert poisoned["test_backdoor"] == (predicted(images).argmax(axis=1) == 2).mean()
    assert "test_backdoor" not in samples.measure(
        model_of(settings), ended.weights, train_settings(**reference.TRAINING)
    )


def test_attackers_of_a_round_are_counted() -> None:
    settings, sizes = attacked(attack="sign_flip", clients_per_round=3), np.array(SIZES)
    evil = attackers(settings, CLIENTS)
    requested = [cohort(settings, sizes, number) for number in range(1, 9)]
    assert [each.counts["attackers"] for each in requested] == [evil[each.clients].sum() for each in requested]
    assert len({each.counts["attackers"] for each in requested}) > 1
    assert cohort(train_settings(), sizes, 1).counts == {}


def test_what_makes_no_sense_is_refused(training_set: Any) -> None:
    with pytest.raises(ValueError, match=r"'train.attackers' is above 0, but .* no_attack: choose an attack"):
        train_settings(attackers=0.1)
    with pytest.raises(ValueError, match="only one of source and target: give both"):
        train_settings(attack="label_flip", label_flip={"source": 1})
    for name, section in (("backdoor", {"target": 10}), ("label_flip", {"source": 1, "target": 10})):
        with pytest.raises(Exception, match=f"params.yaml: 'train.{name}.*10, .*labels are 0 to 9: give"):
            changed(train_settings(attack=name, **{name: section}), (training_set[0][:5], training_set[1][:5]))


@pytest.mark.slow  # tests/fedpipe/test_bits.py has one setting of each
def test_a_second_training_has_the_same_bits(worker: Worker, make_shards: Make) -> None:
    shards = make_shards(SIZES)
    for name in ("backdoor", "gaussian_update"):
        settings = attacked(attack=name)
        first, other = (run(worker, settings, shards, [range(CLIENTS)] * 2).weights for _ in range(2))
        assert same_bits(first, other)
