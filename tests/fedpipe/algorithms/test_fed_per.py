"""FedPer and FedRep against plain NumPy: the shared base, and the heads that clients keep."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedpipe.errors import PipelineError
from fedpipe.runtime.worker import Worker
from tests.fedpipe.algorithms import reference
from tests.fedpipe.algorithms.reference import COHORTS, SIZES, TRAINING, Weights
from tests.fedpipe.training import first_weights, run, train_settings

Make = Callable[[list[int]], Path]


MLP = TRAINING | {"model": "mcmahan_2nn", "mcmahan_2nn": {}}


@pytest.mark.parametrize("name", ["fed_per", "fed_rep"])
@pytest.mark.parametrize("layers", [1, 2])
def test_is_the_papers(worker: Worker, make_shards: Make, name: str, layers: int) -> None:
    section = {"layers": layers} | ({"head_epochs": 3} if name == "fed_rep" else {})
    settings = train_settings(**MLP, algorithm=name, **{name: section})
    shards = make_shards(SIZES)
    ended = run(worker, settings, shards, COHORTS)
    base, weights = 6 - 2 * layers, first_weights(settings)
    head = weights[base:]  # stays
    heads: dict[int, Weights] = {}

    def head_only(gradients: Weights, now: Weights) -> Weights:
        return [np.zeros_like(g) for g in gradients[:base]] + gradients[base:]

    def base_only(gradients: Weights, now: Weights) -> Weights:
        return gradients[:base] + [np.zeros_like(g) for g in gradients[base:]]

    for cohort in COHORTS:
        updates = []
        for client in cohort:
            samples, mine = reference.samples_of(shards, client), weights[:base] + heads.get(client, head)
            if name == "fed_rep":
                longer = settings.model_copy(update={"local_epochs": 3})
                mine = reference.moved(mine, reference.sgd(mine, samples, longer, hook=head_only)[0])
                update, _, _ = reference.sgd(mine, samples, settings, hook=base_only)
                heads[client] = mine[base:]
            else:
                update, _, _ = reference.sgd(mine, samples, settings)
                heads[client] = reference.moved(mine, update)[base:]
            updates.append(update[:base])
        masses: list[float] = [SIZES[k] for k in cohort]
        weights = reference.moved(weights[:base], reference.mean(updates, masses)) + head
    reference.assert_close(ended.weights, weights)
    for kept, found in ended.kept.items():
        expected = np.concatenate([[1.0], *(part.ravel() for part in heads[int(kept.split(".")[0])])])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    shared = 4 * sum(w.size for w in weights[:base])
    assert ended.bytes == (shared, shared)  # the head stays at home


@pytest.mark.parametrize("name", ["fed_per", "fed_rep"])
def test_one_layer_must_be_shared(worker: Worker, make_shards: Make, name: str) -> None:
    settings = train_settings(**TRAINING, algorithm=name)
    with pytest.raises(
        PipelineError, match=f"'train.{name}.layers' is 1, and the model has 1 layers with weights: give"
    ):
        run(worker, settings, make_shards([5]), [[0]])


def test_weight_decay_is_refused() -> None:
    with pytest.raises(ValueError, match=r"fed_rep trains some .*: set 'train.client_optimizer.weight_decay' to 0.0"):
        train_settings(algorithm="fed_rep", client_optimizer={"weight_decay": 0.1})
