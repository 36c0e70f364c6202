"""A training's parts, connected: what is left out follows from settings and shards."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.learning.wiring import Wiring
from fedpipe.seeds import Purpose, generator
from tests.fedpipe.training import model_of, same_bits, train_settings

Make = Callable[[list[int]], Path]


def test_model_and_first_weights_are_those_of_settings_and_seed(make_shards: Make) -> None:
    settings = train_settings(model="logistic_regression", seed=7)
    wiring = Wiring.of(settings, make_shards([3, 4]))
    model = model_of(settings)
    assert wiring.task.network.spec == model.spec and wiring.task.clients == 2
    assert same_bits(wiring.first, model.first_weights(generator(7, Purpose.INITIAL_WEIGHTS)))
    zeros = [np.zeros_like(w) for w in wiring.first]
    assert same_bits(Wiring.of(settings, make_shards([3, 4]), first=zeros).first, zeros)


def test_only_an_algorithm_or_a_compressor_that_keeps_something_has_a_folder(make_shards: Make, tmp_path: Path) -> None:
    shards = make_shards([3, 4])
    for changes, keeps in (({}, False), ({"algorithm": "scaffold"}, True), ({"compressor": "top_k"}, True)):
        wiring = Wiring.of(train_settings(model="logistic_regression", **changes), shards, tmp_path)
        assert wiring.kept == (tmp_path if keeps else None)
    changed = replace(Wiring.of(train_settings(), shards, tmp_path), algorithm=ALGORITHMS.of("scaffold"))
    assert changed.kept == tmp_path
