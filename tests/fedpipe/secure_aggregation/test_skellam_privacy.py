"""The bound against the Rényi divergence by summation, and against the Gaussian mechanism."""

import math

import numpy as np
import pytest
from scipy import special

from fedpipe.secure_aggregation.skellam_privacy import SkellamSum, sensitivity

CASES = [
    (variance, shift, order)
    for variance in (2.0, 10.0, 100.0, 2000.0)
    for shift in (1, 2, 5)
    for order in (2, 3, 8, 32)
    if order * shift <= 3 * variance  # else terms below 1e-300 count
]


def divergence(variance: float, shift: int, order: int) -> float:
    """D_a(Skellam + shift || Skellam), summed over all integers that matter; pmf(k) = exp(-v) I_k(v)."""
    reach = int(60 * math.sqrt(variance) + 60 + order * shift)
    k = np.arange(-reach, reach + 1)
    log = np.log(special.ive(np.abs(k).astype(float), variance) + 1e-320)
    moved = np.log(special.ive(np.abs(k - shift).astype(float), variance) + 1e-320)
    kept = (log > -600) & (moved > -600)
    return float(special.logsumexp(order * moved[kept] + (1 - order) * log[kept]) / (order - 1))


@pytest.mark.parametrize(("variance", "shift", "order"), CASES)
def test_the_bound_is_above_the_divergence_and_near_it_where_noise_is_large(
    variance: float, shift: int, order: int
) -> None:
    """In one dimension, where l1 = l2 = shift."""
    exact, bound = divergence(variance, shift, order), _one_dimension(variance, shift, order)
    assert exact <= bound * (1 + 1e-9)
    if variance >= 2000:
        assert bound <= exact * 1.05


def _one_dimension(variance: float, shift: int, order: int) -> float:
    """`SkellamSum.renyi`, whose l1 is at least that of one entry."""
    noise = SkellamSum(variance, float(shift), 1)
    assert noise.l1 == shift
    return noise.renyi(order)


def test_the_bound_is_that_of_the_paper() -> None:
    """By hand, of theorem 3.5: a = 3, v = 4, l2 = 2, l1 = 4 (four entries of 1): 1.5 + min(44 / 64, 1.5)."""
    mechanism = SkellamSum(4.0, 2.0, 4)
    assert mechanism.l1 == 4.0
    assert mechanism.renyi(3) == pytest.approx(3 * 4 / 8 + (5 * 4 + 24) / 64)
    assert SkellamSum(0.5, 1.0, 1).renyi(2) == pytest.approx(2 + min((3 + 6) / 1.0, 3.0))


def test_l1_is_the_smaller_of_both_bounds() -> None:
    assert SkellamSum(1.0, 3.0, 4).l1 == 6.0 and SkellamSum(1.0, 3.0, 100).l1 == 9.0


@pytest.mark.parametrize(("multiplier", "rounds"), [(1.0, 1), (2.0, 10), (20.0, 1000)])
def test_with_a_fine_scale_epsilon_is_that_of_the_gaussian_mechanism(multiplier: float, rounds: int) -> None:
    from dp_accounting import GaussianDpEvent, SelfComposedDpEvent, rdp

    l2 = 1e6
    accountant = rdp.RdpAccountant(orders=[*range(2, 129), 256, 512, 1024])
    accountant.compose(SelfComposedDpEvent(GaussianDpEvent(multiplier), rounds))
    gaussian = accountant.get_epsilon(1e-5)
    epsilon = SkellamSum((multiplier * l2) ** 2, l2, 10_000).epsilon(rounds, 1e-5)
    assert gaussian <= epsilon * (1 + 1e-12) and epsilon == pytest.approx(gaussian, rel=1e-3)


def test_a_coarse_scale_costs_more() -> None:
    coarse, fine = (SkellamSum((2 * l2) ** 2, l2, 10_000).epsilon(1, 1e-5) for l2 in (1.0, 1e4))
    assert coarse > 1.05 * fine


def test_the_sensitivity_covers_every_rounding() -> None:
    update = np.full(100, 0.1)
    for scale in (1.0, 7.3, 1000.0):
        rounded = np.round(update * scale)
        assert np.linalg.norm(rounded) <= sensitivity(1.0, scale, 100)
    assert sensitivity(1.0, 10.0, 4, clients=3) == 33.0
