"""Secret noise of a site: Skellam-distributed integers, drawn from the keystream of a fresh AES key.

    Skellam(variance v) = Poisson(v / 2) - Poisson(v / 2)

Sums of independent Skellam variables are Skellam again, so that the noise of the sum is known however many sites add to
it. The generator is cryptographic and takes no seed of a training: whoever repeats the training does not get the noise.
Poisson variables of a mean from 10 on are drawn by transformed rejection, smaller ones by inversion; both decide
in float64, so that probabilities are off by about 1e-13 relative. That is no proof against an attack on floating point.

Sources: Agarwal, Kairouz and Liu 2021, "The Skellam Mechanism for Differentially Private Federated Learning",
https://arxiv.org/abs/2110.04995; Hörmann 1993, "The transformed rejection method for generating Poisson random
variables", https://doi.org/10.1016/0167-6687(93)90997-4 (algorithm PTRS); Loader 2000, "Fast and accurate computation
of binomial probabilities", for the Poisson probabilities.
"""

import math
from collections.abc import Callable

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_BLOCK = 1 << 16  # integers that are drawn at once
_SMALL = 10.0  # mean below which the cumulative probabilities are tabulated


class Uniform:
    """Uniform float64 in (0, 1), from AES-256 in counter mode with a key that is drawn for this generator."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        """``random``: (n) -> n bytes that nobody can predict."""
        self._stream = Cipher(algorithms.AES(random(32)), modes.CTR(bytes(16))).encryptor()

    def sample(self, size: int) -> np.ndarray:
        """``size`` numbers, (m + 1/2) / 2^53 for m uniform below 2^53."""
        words = np.frombuffer(self._stream.update(bytes(8 * size)), "<u8")
        return ((words >> 11).astype(np.float64) + 0.5) * 2.0**-53


def add_noise(words: np.ndarray, variance: int, random: Callable[[int], bytes]) -> None:
    """Adds independent Skellam noise to unsigned words in place, modulo their size; with variance 0 it does nothing."""
    if not variance:
        return
    uniform = Uniform(random)
    for start in range(0, len(words), _BLOCK):
        part = words[start : start + _BLOCK]
        noise = skellam(len(part), variance, uniform)
        np.add(part, noise.astype(words.dtype), out=part)  # two's complement: negative ones wrap around


def skellam(size: int, variance: float, uniform: Uniform) -> np.ndarray:
    """int64 [size] with mean 0 and this variance."""
    return poisson(size, variance / 2, uniform) - poisson(size, variance / 2, uniform)


def poisson(size: int, mean: float, uniform: Uniform) -> np.ndarray:
    """int64 [size] with this mean, up to 2^47."""
    if mean < _SMALL:
        values = np.arange(100)
        log = values * math.log(mean) - mean - np.array([math.lgamma(value + 1.0) for value in values])
        return np.searchsorted(np.cumsum(np.exp(log)), uniform.sample(size)).astype(np.int64)
    drawn = np.empty(size, np.int64)
    open_ = np.arange(size)
    while len(open_):
        values, accepted = _candidates(len(open_), mean, uniform)
        drawn[open_[accepted]] = values[accepted]
        open_ = open_[~accepted]
    return drawn


def _candidates(size: int, mean: float, uniform: Uniform) -> tuple[np.ndarray, np.ndarray]:
    """Values, and which of them are accepted: Hörmann's PTRS, with the ratio of probabilities in logarithms."""
    b = 0.931 + 2.53 * math.sqrt(mean)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    squeeze = 0.9277 - 3.6224 / (b - 2)
    u, v = uniform.sample(size) - 0.5, uniform.sample(size)
    distance = 0.5 - np.abs(u)
    value = np.floor((2 * a / distance + b) * u + mean + 0.43)
    possible = (value >= 0) & ~((distance < 0.013) & (v > distance))
    accepted = (distance >= 0.07) & (v <= squeeze) & possible
    unsure = np.flatnonzero(possible & ~accepted)
    d = distance[unsure]
    bound = np.log(v[unsure]) + math.log(inverse_alpha) - np.log(a / (d * d) + b)
    accepted[unsure] = bound <= log_poisson(value[unsure], mean)
    return value.astype(np.int64), accepted


def log_poisson(value: np.ndarray, mean: float) -> np.ndarray:
    """log of the Poisson probability, by Loader's saddle-point expansion: no terms of the size of the mean cancel.

    Args:
      value: float64, whole numbers from 0 on.
      mean: Above 0.
    """
    k = np.maximum(value, 1.0)
    inverse = 1 / (k * k)
    tail = (1 / 12 - (1 / 360 - (1 / 1260 - (1 / 1680 - inverse / 1188) * inverse) * inverse) * inverse) / k
    small = k < 16
    if small.any():
        exact = [math.lgamma(x + 1) - (x + 0.5) * math.log(x) + x - 0.5 * math.log(2 * math.pi) for x in k[small]]
        tail[small] = exact
    log = -tail - _deviance(k, mean) - 0.5 * np.log(2 * math.pi * k)
    return np.where(value == 0, -mean, log)


def _deviance(k: np.ndarray, mean: float) -> np.ndarray:
    """k log(k / mean) + mean - k, without cancellation near the mean."""
    d = (k - mean) / mean
    series = np.zeros_like(d)
    for power in range(9, 1, -1):  # (1 + d) log(1 + d) - d = sum of (-d)^p / (p (p - 1))
        series = 1 / (power * (power - 1)) - d * series
    return mean * np.where(np.abs(d) < 0.01, d * d * series, (1 + d) * np.log1p(d) - d)


def room(variance: int, length: int, failure: float = 2.0**-40) -> int:
    """The least integer that no entry of the noise exceeds, in absolute value, but for a probability of ``failure``.

    A sum of noisy integers leaves the range modulo 2^bits unless it has this much room besides.

    Args:
      variance: Of the noise on each entry of the sum.
      length: Number of entries.
      failure: For all entries together.

    By Chernoff's bound, from E exp(t X) = exp(v (cosh t - 1)): P(|X| >= x) <= 2 exp(v (cosh t - 1) - t x) with
    t = asinh(x / v).
    """
    if not variance:
        return 0
    aim = math.log(2 * length / failure)

    def exponent(x: float) -> float:
        t = math.asinh(x / variance)
        return t * x - variance * 2 * math.sinh(t / 2) ** 2  # cosh t - 1

    low, high = 0, 1
    while exponent(high) < aim:
        high *= 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if exponent(middle) < aim else (low, middle)
    return high
