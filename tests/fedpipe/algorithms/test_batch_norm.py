"""Models with batch normalization, by Keras's own layers: statistics averaged, and choices that cannot carry them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fedpipe
from fedpipe.errors import PipelineError
from fedpipe.networks.portable import keras_model, plain_model
from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms import papers
from tests.fedpipe.algorithms.by_keras import KerasClient
from tests.fedpipe.training import first_weights, model_of, run, same_bits, train_settings

Make = Callable[[list[int]], Path]
SIZES = [30, 12, 0, 7]
COHORTS = [[0, 1, 2, 3], [0, 1]]
BATCH_NORM = {"model": "keras_cnn", "keras_cnn": {"batch_norm": True, "dropout": 0.0}}
TRAINING = BATCH_NORM | {
    "batch_size": 10,
    "client_optimizer": {"learning_rate": 0.005},
    "server_optimizer": {"learning_rate": 0.5, "momentum": 0.9},
}


@pytest.mark.slow  # test_keras_model.py compares a single step
def test_statistics_are_the_mean_of_the_clients_whatever_the_server_optimizer(
    worker: Worker, make_shards: Make
) -> None:
    settings, shards = train_settings(**TRAINING), make_shards(SIZES)
    first = first_weights(settings)
    ended = run(worker, settings, shards, COHORTS)
    fed, client = papers.Federation.of(settings, shards, first, COHORTS), KerasClient(settings)
    weights, velocity = first, [np.zeros_like(w) for w in first]
    for clients in fed.rounds():
        after = {k: client.trained(weights, fed.samples[k]) for k in clients}
        mean = fed.mean(after)
        velocity = [np.float32(0.9) * v + w - m for v, w, m in zip(velocity, weights, mean, strict=True)]
        moved = [w - np.float32(0.5) * v for w, v in zip(weights, velocity, strict=True)]
        weights = [m if is_mean else w for is_mean, m, w in zip(client.is_statistic, mean, moved, strict=True)]
    assert sum(client.is_statistic) == 4
    for mine, theirs in zip(ended.weights, weights, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5)
    # Momentum and rate would have moved them elsewhere.
    assert max(abs(a - b).max() for a, b in zip(ended.weights[3:5], moved[3:5], strict=True)) > 1e-4


REFUSED = {
    "scaffold": ({"algorithm": "scaffold"}, "algorithm' scaffold would not average.*ditto, fed_avg, fed_bn"),
    "fed_async": (
        {"algorithm": "fed_async", "availability": {"devices": {"seconds_per_sample": 1.0}}},
        "algorithm' fed_async would not average",
    ),
    "krum": ({"aggregator": "krum"}, "aggregator' krum would take for gradients: choose one of mean, median"),
    "dp_gaussian": (
        {"aggregator": "dp_gaussian", "client_weighting": "uniform"},
        "aggregator' dp_gaussian would take for gradients",
    ),
    "secure_sum": (
        {"aggregator": "secure_sum", "client_weighting": "uniform"},
        "aggregator' secure_sum would take for gradients",
    ),
    "top_k": ({"compressor": "top_k"}, "compressor' top_k would change: set it to no_compression"),
    "no batch normalization": ({"model": "mlp", "algorithm": "fed_bn"}, "'train.model' mlp has none"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_choices_that_cannot_carry_statistics_are_rejected_before_any_stage(case: str) -> None:
    changes, reason = REFUSED[case]
    with pytest.raises(ValueError, match=reason):
        train_settings(**TRAINING | changes)


def test_clients_that_keep_batch_normalization_send_what_every_aggregator_takes() -> None:
    for changes in ({"aggregator": "dp_gaussian"}, {"aggregator": "secure_sum"}, {"compressor": "top_k"}):
        train_settings(**TRAINING, algorithm="fed_bn", client_weighting="uniform", **changes)


def test_a_model_that_says_it_when_it_is_built_is_rejected_then(worker: Worker, make_shards: Make) -> None:
    without = train_settings(model="keras_cnn", algorithm="fed_bn")
    with pytest.raises(PipelineError, match=r"fed_bn keeps .* 'train.model' keras_cnn trains none: choose fed_avg"):
        run(worker, without, make_shards([5]), [[0]])
    # As of a model whose file does not say it before.
    with pytest.raises(PipelineError, match=r"trains batch normalization, whose statistics .train.algorithm' scaffold"):
        run(
            worker,
            train_settings(model="keras_cnn", algorithm="scaffold"),
            make_shards([5]),
            [[0]],
            model=model_of(train_settings(**BATCH_NORM)),
        )


def test_a_variance_that_rounding_takes_below_zero_is_zero() -> None:
    model = model_of(train_settings(**BATCH_NORM))
    weights = [np.ones(shape, np.float32) for shape in model.shapes.values()]
    mean, variance, *_ = model.averaged_statistics(weights, [np.float32(1.25) * w for w in weights])
    assert (np.array(mean) == -0.25).all() and (np.array(variance) == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["fed_avg", "fed_bn"])
def test_more_rounds_have_the_bits_of_as_many_from_the_start(
    algorithm: str, training_set: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """With augmentation and dropout; personal models, and the exported layers of Keras, have the statistics."""
    images, labels = (part[:60] for part in training_set)
    clients = np.array_split(np.arange(60), 3)
    model = {"batch_norm": True, "augmentation": {"flip": True, "rotation": 0.1, "zoom": 0.1, "contrast": 0.2}}

    def simulated(rounds: int) -> fedpipe.Simulation:
        settings = fedpipe.train_settings(
            algorithm=algorithm, model="keras_cnn", keras_cnn=model, rounds=rounds, evaluate_every=0
        )
        return fedpipe.simulate(images, labels, clients, settings, classes=10, progress=False)

    whole, continued = simulated(3), simulated(1).continue_(2, progress=False)
    assert same_bits(whole.weights, continued.weights)
    if algorithm == "fed_bn":
        assert whole.personal is not None and continued.personal is not None
        own = [whole.personal.weights(client) for client in range(3)]
        assert all(same_bits(weights, continued.personal.weights(client)) for client, weights in enumerate(own))
        kept = [name in whole.network.batch_norm for name in whole.network.shapes]
        for name_is_kept, first, second, of_all in zip(kept, own[0], own[1], whole.weights, strict=True):
            assert (first != second).any() == name_is_kept and (first != of_all).any() == name_is_kept
    fedpipe.save_weights(tmp_path / "weights.safetensors", whole.network, whole.weights)
    network, weights = fedpipe.load_weights(tmp_path / "weights.safetensors")
    expected = whole.predict(images)
    np.testing.assert_array_equal(network.predictor(weights)(images), expected)
    np.testing.assert_allclose(keras_model(network, weights)(images), expected, atol=1e-5)
    np.testing.assert_allclose(plain_model(network, weights).predict(images)["probabilities"], expected, atol=1e-5)
