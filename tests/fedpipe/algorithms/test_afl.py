"""Agnostic federated learning: what it refuses (test_papers.py compares it with its paper)."""

import pytest

from tests.fedpipe.training import train_settings


def test_another_weighting_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'train.algorithm' afl weighs .*: set 'train.client_weighting' to uniform"):
        train_settings(algorithm="afl")


@pytest.mark.parametrize("algorithm", ["afl", "q_fed_avg"])
@pytest.mark.parametrize("aggregator", ["median", "trimmed_mean", "krum", "multi_krum", "bulyan"])
def test_aggregators_that_count_all_alike_are_refused(algorithm: str, aggregator: str) -> None:
    with pytest.raises(ValueError, match=f"{algorithm} lets clients count by weights of its own, and .* {aggregator} "):
        train_settings(algorithm=algorithm, aggregator=aggregator, client_weighting="uniform")
    train_settings(algorithm=algorithm, aggregator="geometric_median", client_weighting="uniform")
