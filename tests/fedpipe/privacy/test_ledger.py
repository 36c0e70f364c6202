"""What epsilon a training has spent, against figures computed elsewhere and against the Gaussian mechanism by hand."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats

from fedpipe.contracts.cohort import Sampling
from fedpipe.errors import PipelineError
from fedpipe.privacy.ledger import Ledger
from fedpipe.privacy.mechanism import LocalGaussian, SampledGaussian
from tests.fedpipe.training import train_settings

DELTA = 1e-5


def nobody(round_number: int) -> np.ndarray:
    raise AssertionError(f"the cohort of round {round_number} is not needed")


def private(clients: int, draw: Any = nobody, **changes: Any) -> Ledger:
    settings = train_settings(**{"aggregator": "dp_gaussian", "client_weighting": "uniform", **changes})
    actual = Ledger.of(settings, clients, draw)
    assert actual is not None
    return actual


def gaussian_epsilon(noise_multiplier: float) -> float:
    """The exact epsilon of one Gaussian mechanism (Balle and Wang 2018, theorem 8)."""

    def delta(epsilon: float) -> float:
        a, b = 1 / (2 * noise_multiplier), epsilon * noise_multiplier
        return float(stats.norm.cdf(a - b) - math.exp(epsilon) * stats.norm.cdf(-a - b))

    return float(optimize.brentq(lambda epsilon: delta(epsilon) - DELTA, 0, 200))


@pytest.mark.parametrize(
    ("probability", "clients", "rounds", "renyi", "tight"),
    [(0.01, 1000, 1000, 2.101, 1.828), (1 / 6, 600, 100, 13.23, 11.98)],
)
def test_known_figures(probability: float, clients: int, rounds: int, renyi: float, tight: float) -> None:
    ledger = private(clients, cohort="poisson", poisson={"probability": probability}, rounds=rounds)
    summary = ledger.summary(rounds)
    assert summary["epsilon_rdp"] == pytest.approx(renyi, abs=0.005)
    assert summary["epsilon_pld"] == pytest.approx(tight, abs=0.005)
    assert (summary["delta"], summary["neighbours"]) == (DELTA, "add or remove one client")


def test_with_little_noise_there_is_no_tight_figure() -> None:
    """Its table would have 40 GiB, after the last round."""
    summary = private(10, dp_gaussian={"noise_multiplier": 1e-3}).summary(2)
    assert summary["epsilon_rdp"] > 1e6 and "epsilon_pld" not in summary


def test_a_fixed_cohort_never_has_the_poisson_figure() -> None:
    """It costs more: a client is replaced by another, and z counts half."""
    fixed, poisson = (
        private(600, clients_per_round=100),
        private(600, cohort="poisson", poisson={"probability": 1 / 6}),
    )
    assert fixed.epsilon(100) > 5 * poisson.epsilon(100)
    summary = fixed.summary(1)
    assert "epsilon_pld" not in summary and summary["neighbours"] == "replace one client"
    mechanism = SampledGaussian(1.0, Sampling("fixed", 100, 600))
    assert mechanism.event().event.noise_multiplier == 0.5


def exact_delta(epsilon: float, noise_multiplier: float, probability: float) -> float:
    """The largest delta of one Poisson-sampled round at ``epsilon``, client added or removed, by integration."""
    at = np.linspace(-40, 40, 400_001)
    without, with_client = stats.norm.pdf(at, 0, noise_multiplier), stats.norm.pdf(at, 1, noise_multiplier)
    mixed = (1 - probability) * without + probability * with_client
    sides = (mixed - math.exp(epsilon) * without, without - math.exp(epsilon) * mixed)
    return max(float(np.maximum(side, 0).sum() * (at[1] - at[0])) for side in sides)


def test_dropouts_spend_no_more_than_is_counted() -> None:
    """The figure with dropouts is that without; the true one, of a client that is there less often, is below."""
    lost = {"dropout_before": 0.3, "dropout_during": 0.2}
    poisson = {"cohort": "poisson", "poisson": {"probability": 0.3}}
    counted, plain = (private(100, **poisson, availability=some) for some in (lost, {}))
    assert counted.epsilon(50) == plain.epsilon(50) and counted.summary(50) == plain.summary(50)
    for epsilon in (0.0, 0.1, 0.5, 1.0):
        deltas = [exact_delta(epsilon, 1.0, q) for q in (0.05, 0.3 * 0.7 * 0.8, 0.25, 0.3, 1.0)]
        assert deltas == sorted(deltas)
    smaller = [SampledGaussian(1.0, Sampling("fixed", m, 60)) for m in (1, 5, 12, 20)]
    figures = np.array([each._renyi[1] for each in smaller])
    assert (np.diff(figures, axis=0) >= 0).all()  # at every order


def test_a_tree_counts_the_rounds_that_a_client_was_really_in() -> None:
    cohorts = {number: np.array([number % 2]) for number in range(1, 9)}
    settings = {"aggregator": "dp_ftrl", "availability": {"cyclic": {"groups": 2, "period": 2}}}
    halves, always = private(2, cohorts.__getitem__, **settings), private(2, lambda _: np.array([0, 1]), **settings)
    assert halves.epsilon(8) < always.epsilon(8)


def test_all_clients_are_not_sampled() -> None:
    for size in ("all", 30, 31):
        ledger = private(30, clients_per_round=size, dp_gaussian={"noise_multiplier": 4.0})
        assert gaussian_epsilon(4 / 3) < ledger.epsilon(9) < 1.2 * gaussian_epsilon(4 / 3)
    assert ledger.summary(9)["epsilon_pld"] == pytest.approx(gaussian_epsilon(4 / 3), rel=1e-3)


def test_epsilon_grows_and_a_budget_ends_in_time() -> None:
    budget = {"stop_at": {"epsilon": 3.0}, "rounds": 1000, "cohort": "poisson", "poisson": {"probability": 0.05}}
    ledger = private(100, **budget)
    rounds = ledger.rounds()
    assert 1 < rounds < 1000 and ledger.epsilon(rounds) <= 3.0 < ledger.epsilon(rounds + 1)
    assert private(100, **budget | {"stop_at": {}}).rounds() == 1000
    with pytest.raises(PipelineError, match=r"'train.stop_at.epsilon' is 0.01, and the first round already spends"):
        private(100, **budget | {"stop_at": {"epsilon": 0.01}}).rounds()


def test_local_noise_counts_half_and_every_round() -> None:
    assert LocalGaussian(6.0).tight_epsilon(4, DELTA, nobody) == pytest.approx(gaussian_epsilon(1.5), rel=1e-3)
    assert LocalGaussian(6.0).epsilon(4, DELTA, nobody) >= gaussian_epsilon(1.5)


def test_only_private_aggregators_have_a_ledger() -> None:
    for name in ("mean", "secure_sum"):
        assert Ledger.of(train_settings(aggregator=name, client_weighting="uniform"), 5, nobody) is None
    with pytest.raises(ValueError, match=r"'train.stop_at.epsilon' needs an aggregator .* dp_ftrl, dp_gaussian, local"):
        train_settings(stop_at={"epsilon": 1.0})
