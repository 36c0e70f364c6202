import math
import os
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from fedpipe.secure_aggregation import noise
from fedpipe.secure_aggregation.coordinator import Phase
from fedpipe.secure_aggregation.noise import Uniform
from fedpipe.secure_aggregation.vector import Vector
from tests.fedpipe.secure_aggregation.federation import Federation, fixed_random, setting_of


def drawn(mean: float, size: int = 60_000) -> np.ndarray:
    return noise.poisson(size, mean, Uniform(fixed_random(b"noise %a" % mean)))


@pytest.mark.parametrize("mean", [0.3, 4.0, 9.99, 10.0, 37.5, 1e4])
def test_poisson_variables_have_their_distribution(mean: float) -> None:
    """Chi-squared over cells of at least 1 % each, fixed draws."""
    values, distribution = drawn(mean), stats.poisson(mean)
    edges = np.unique(distribution.ppf(np.linspace(0.01, 0.99, 50)))
    probabilities = np.diff(np.concatenate([[0.0], distribution.cdf(edges), [1.0]]))
    observed = np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1)
    kept = probabilities > 1e-4
    hoped = probabilities[kept] / probabilities[kept].sum() * observed[kept].sum()
    assert stats.chisquare(observed[kept], hoped).pvalue > 1e-3


@pytest.mark.parametrize("mean", [2.0**20, 2.0**34, 2.0**47])
def test_large_means_have_mean_variance_and_quantiles(mean: float) -> None:
    centred = (drawn(mean) - mean) / math.sqrt(mean)
    assert abs(centred.mean()) < 5 / math.sqrt(len(centred))
    assert abs(centred.var() - 1) < 5 * math.sqrt(2 / len(centred))
    assert stats.kstest(centred, "norm").pvalue > 1e-3


@pytest.mark.parametrize("mean", [10.0, 1234.5, 1e9, 2.0**47])
def test_log_probabilities_are_those_of_poisson(mean: float) -> None:
    """Against the defining formula, with 60 digits."""
    mpmath = pytest.importorskip("mpmath")
    spread = math.sqrt(mean)
    values = np.array([0.0, 1.0, *np.floor(mean + spread * np.array([-3, -0.5, 0, 0.7, 4, 8]))]).clip(0)
    with mpmath.workdps(60):
        exact = [mpmath.mpf(k) * mpmath.log(mean) - mean - mpmath.loggamma(mpmath.mpf(k) + 1) for k in values]
    got = noise.log_poisson(values, mean)
    allowed = 2e-8 * (mean > 1e12) + 1e-12 * np.maximum(1, np.abs([float(each) for each in exact]))
    assert (np.abs([float(each - ours) for each, ours in zip(exact, got, strict=True)]) <= allowed).all()


def test_skellam_noise_has_mean_0_and_its_variance() -> None:
    for variance in (1.0, 50.0, 1e6):
        values = noise.skellam(60_000, variance, Uniform(fixed_random(b"skellam")))
        assert abs(values.mean()) < 5 * math.sqrt(variance / len(values))
        assert abs(values.var() / variance - 1) < 5 * math.sqrt((2 + 1 / variance) / len(values))


def test_noise_wraps_around_and_no_two_blocks_are_alike() -> None:
    for dtype in ("<u4", "<u8"):
        words = np.zeros(150_000, dtype)
        noise.add_noise(words, 100, os.urandom)
        signed = words.view("<i8" if dtype == "<u8" else "<i4").astype(np.int64)
        assert 0 < np.abs(signed).max() < 100 and (signed < 0).any()
        assert not np.array_equal(words[:65_536], words[65_536:131_072])
    untouched = np.arange(5, dtype="<u4")
    noise.add_noise(untouched, 0, os.urandom)
    assert untouched.tolist() == [0, 1, 2, 3, 4]


def test_the_sum_has_the_noise_of_all_survivors(tmp_path: Path) -> None:
    """Variance 300 over minimum 3 - 0 sites: 100 each, 400 for four survivors."""
    federation = Federation(tmp_path, setting_of(range(1, 6), length=40_000, quantities=0, noise=300))
    assert federation.setting.roster.minimum == 3 and federation.setting.noise_per_site == 100
    zeros = Vector.zeros(32, 40_000, 0)
    federation.summands = dict.fromkeys(federation.setting.roster.sites, zeros)
    federation.begin()
    result = federation.run({Phase.MASK: [2]})
    noisy = result.weights.view("<i4").astype(np.float64)
    assert abs(noisy.var() / 400 - 1) < 5 * math.sqrt(2 / 40_000) and abs(noisy.mean()) < 0.5


def test_no_entry_leaves_the_room_of_the_noise() -> None:
    for variance in (1, 400, 10**9):
        room = noise.room(variance, 1000, 1e-6)
        assert 2 * 1000 * stats.skellam.sf(room - 1, variance / 2, variance / 2) <= 1e-6 or variance > 10**6
        assert 3 < room / math.sqrt(variance) < 40
        assert np.abs(noise.skellam(1000, variance, Uniform(fixed_random(b"room")))).max() < room
    assert noise.room(0, 5) == 0
