"""What attackers send besides their updates: every vector is attacked, in every pass, and no number is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpipe.learning.attackers import attackers
from fedpipe.learning.work_request import WorkRequest
from fedpipe.runtime.cohort import Cohort
from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms import reference
from tests.fedpipe.algorithms.reference import TRAINING, Weights
from tests.fedpipe.training import Ended, first_weights, run, runs, same_bits, train_settings

Make = Callable[[list[int]], Path]
SIZES = [20, 20, 20]
EVERYBODY, SCALE, BETA = 0.99, 3.0, 0.5  # a share of 0.99 of three clients is all of them


def attacked(share: float = 0.34, **changes: Any) -> Any:
    flipped = {"attack": "sign_flip", "sign_flip": {"scale": SCALE}, "client_weighting": "uniform"}
    return train_settings(**TRAINING | flipped | {"attackers": share} | changes)


def in_the_models_shape(ended: Ended) -> Weights:
    """The parts of the server's state that have the shapes of the weights, which come first."""
    return [leaf for leaf in ended.state if leaf.shape in [(784, 10), (10,)]]


def sent(settings: Any, vectors: list[Weights]) -> list[Weights]:
    evil = attackers(settings, len(SIZES))
    return [[np.float32(-SCALE) * v for v in vector] if evil[k] else vector for k, vector in enumerate(vectors)]


def test_scaffolds_control_variates_are_attacked(worker: Worker, make_shards: Make) -> None:
    settings, shards = attacked(algorithm="scaffold", scaffold={"option": 1}), make_shards(SIZES)
    ended, first = run(worker, settings, shards, [range(3)]), first_weights(settings)
    samples = [reference.samples_of(shards, k) for k in range(3)]
    changes = sent(settings, [reference.losses_and_gradient(first, each)[1] for each in samples])
    for a, b in zip(in_the_models_shape(ended)[-2:], reference.mean(changes, [1.0] * 3), strict=True):
        np.testing.assert_allclose(a, b, atol=5e-6)
    honest = [reference.losses_and_gradient(first, each)[1] for each in samples]
    for client in range(3):  # keeps what it would keep as an honest one
        kept = np.concatenate([part.ravel() for part in honest[client]])
        np.testing.assert_allclose(ended.kept[f"{client}.1"], kept, atol=5e-6)


@pytest.mark.parametrize("name", ["mime", "mime_lite"])
def test_gradients_at_the_global_weights_are_attacked(worker: Worker, make_shards: Make, name: str) -> None:
    settings, shards = attacked(algorithm=name, **{name: {"beta": BETA}}), make_shards(SIZES)
    ended, weights = run(worker, settings, shards, [range(3)] * 2), first_weights(settings)
    everyone, beta = [reference.samples_of(shards, k) for k in range(3)], np.float32(BETA)
    momentum: Weights = [np.zeros_like(w) for w in weights]
    for _ in range(2):
        full = sent(settings, [reference.losses_and_gradient(weights, samples)[1] for samples in everyone])
        mean, updates = reference.mean(full, [1.0] * 3), []
        for samples in everyone:
            batches = reference.batches(samples, settings)

            def mimicked(gradients: Weights, now: Weights, batches=batches, first=weights) -> Weights:  # type: ignore[no-untyped-def]
                if name == "mime":
                    at_first = reference.losses_and_gradient(first, next(batches))[1]
                    gradients = [g - t + c for g, t, c in zip(gradients, at_first, mean, strict=True)]  # noqa: B023
                return [(1 - beta) * g + beta * s for g, s in zip(gradients, momentum, strict=True)]  # noqa: B023

            updates.append(reference.sgd(weights, samples, settings, hook=mimicked)[0])
        weights = reference.moved(weights, reference.mean(sent(settings, updates), [1.0] * 3))
        momentum = [(1 - beta) * c + beta * s for c, s in zip(mean, momentum, strict=True)]
    reference.assert_close(ended.weights, weights)


def test_noise_for_scaffolds_control_variate_counts_with_the_clients_weight(worker: Worker, make_shards: Make) -> None:
    """The server's control variate is the mean of three noises, as the update is, whatever the clients' sizes."""
    noisy = {"algorithm": "scaffold", "attack": "gaussian_update", "client_weighting": "examples"}
    settings = attacked(EVERYBODY, **noisy)
    ended, first = run(worker, settings, make_shards(SIZES), [range(3)]), first_weights(settings)
    update, variate = first[0] - ended.weights[0], in_the_models_shape(ended)[-2]
    for noise in (update, variate):
        assert abs(noise.std() - 1 / np.sqrt(3)) < 0.03


def test_fed_novas_lengths_are_attacked_within_their_bounds(worker: Worker, make_shards: Make) -> None:
    """An attacker that flips signs claims the least length there is, 0: the server moves less far on average."""
    sizes = [20, 30, 50]
    settings, shards = attacked(algorithm="fed_nova"), make_shards(sizes)
    evil = attackers(settings, 3)
    assert evil.sum() == 1
    ended, first = run(worker, settings, shards, [range(3)]), first_weights(settings)
    lengths = [float(reference.step_count(settings, size)) for size in sizes]
    directions = []
    for client, length in enumerate(lengths):
        update = reference.sgd(first, reference.samples_of(shards, client), settings)[0]
        directions.append([u / np.float32(length) for u in update])
    claimed = [0.0 if evil[client] else length for client, length in enumerate(lengths)]
    direction = reference.mean(sent(settings, directions), [1.0] * 3)
    reference.assert_close(ended.weights, reference.moved(first, direction, float(np.mean(claimed))))


def test_fed_novas_longest_claim_is_all_local_steps(worker: Worker, make_shards: Make) -> None:
    """Stragglers that send ten times what they have claim the steps that they did not take, and no more."""
    halves = [Cohort(WorkRequest.of(range(3), work=500))]
    scaled = {"algorithm": "fed_nova", "attack": "scaled_update", "scaled_update": {"factor": 10.0}}
    shards, first = make_shards(SIZES), first_weights(attacked())
    honest = run(worker, attacked(0.0, **scaled), shards, halves).weights
    ended = run(worker, attacked(EVERYBODY, **scaled), shards, halves).weights
    for start, plain, other in zip(first, honest, ended, strict=True):
        np.testing.assert_allclose(start - other, 2 * 10 * (start - plain), atol=1e-6)  # 4 steps claimed, 2 taken


@pytest.mark.parametrize("name", ["fed_nova", "q_fed_avg", "afl"])
def test_numbers_stay_honest(worker: Worker, make_shards: Make, name: str) -> None:
    """All send twice the update, and the server moves twice as far: lengths, losses and weights are as they were."""
    double = {"algorithm": name, "attack": "scaled_update", "scaled_update": {"factor": 2.0}}
    shards, first = make_shards([20, 30, 0]), first_weights(attacked())
    honest, scaled = (run(worker, attacked(share, **double), shards, [range(3)]) for share in (0.0, EVERYBODY))
    for start, plain, other in zip(first, honest.weights, scaled.weights, strict=True):
        np.testing.assert_allclose(start - other, 2 * (start - plain), atol=1e-7)


def test_each_vector_is_noise_of_its_own(worker: Worker, make_shards: Make) -> None:
    """Of MimeLite two vectors in one message; of Mime one in each of two passes."""
    for name in ("mime_lite", "mime"):
        settings = attacked(EVERYBODY, algorithm=name, attack="gaussian_update", **{name: {"beta": 0.0}})
        ended, first = run(worker, settings, make_shards([20]), [[0]]), first_weights(settings)
        update = first[0] - ended.weights[0]
        others = [leaf for leaf in in_the_models_shape(ended)[2:] if leaf.shape == update.shape and leaf.any()]
        assert others and abs(update.std() - 1) < 0.05
        for noise in others:
            assert abs(noise.std() - 1) < 0.05 and abs(np.corrcoef(noise.ravel(), update.ravel())[0, 1]) < 0.05


def test_an_attacker_reaches_the_model_of_its_cluster_only(worker: Worker, make_shards: Make) -> None:
    noisy = {"algorithm": "ifca", "attack": "gaussian_update", "seed": 3}
    shards, settings = make_shards([20, 20]), attacked(0.5, **noisy)
    (attacker,) = np.flatnonzero(attackers(settings, 2))
    honest = run(worker, attacked(0.0, **noisy), shards, [[0, 1]])
    alone, ended = runs(worker, settings, shards, [[[attacker]], [[0, 1]]])
    assert honest.rounds[0]["cluster_0_clients"] == 1, "another seed: each client is to have a model of its own"
    its_own = int(alone.rounds[0]["cluster_1_clients"])
    models = [leaf for leaf in ended.state if leaf.shape[:1] == (2,)]
    expected = [leaf for leaf in honest.state if leaf.shape[:1] == (2,)]
    assert same_bits([m[1 - its_own] for m in models], [m[1 - its_own] for m in expected])
    assert not same_bits([m[its_own] for m in models], [m[its_own] for m in expected])
