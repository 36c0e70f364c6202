"""Secure sums over the link: the bits of the simulation, and nothing of one site."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fedpipe.config.train import Train
from fedpipe.federation.messages import Pass, unpack_question
from fedpipe.runtime.worker import Worker
from tests.fedpipe.bits import TRAINING
from tests.fedpipe.federation.sites import NAMES, Sites, small
from tests.fedpipe.federation.test_bits import SEVEN, require_same_bits
from tests.fedpipe.training import train_settings

UNIFORM: dict[str, Any] = {"aggregator": "secure_sum", "client_weighting": "uniform"}
BY_EXAMPLES: dict[str, Any] = {"aggregator": "secure_sum", "secure_sum": {"most_examples": 10}}


@pytest.fixture(scope="module")
def sites(training_set: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    made = Sites(tmp_path_factory.mktemp("federation"), *small(training_set))
    made.start()
    yield made
    made.stop()


def settings_of(**changes: Any) -> Train:
    return train_settings(**TRAINING | changes)


def test_weights_by_examples_and_measurements_go_through_the_sum(worker: Worker, sites: Sites) -> None:
    """Five steps per site and round, and no plain question; the same bits, and the same figures of each round."""
    asked = len(sites.asked)
    require_same_bits(worker, sites, settings_of(**BY_EXAMPLES), [range(12), SEVEN])
    questions = [unpack_question(content).message for _, content in sites.asked[asked:]]
    assert not [question for question in questions if isinstance(question, Pass)]
    steps = [
        name for (name, _), question in zip(sites.asked[asked:], questions, strict=True) if question.kind == "secure"
    ]
    assert steps == NAMES * 10
