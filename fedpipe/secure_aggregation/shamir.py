"""Shamir's secret sharing over a prime field: any ``threshold`` shares give the secret, fewer say nothing about it.

    share of site x = f(x)        f = secret + a_1 X + ... + a_(t-1) X^(t-1)        a_i uniform modulo the prime

Python's integers do not take constant time: a site that measures another one's time to the nanosecond is not covered.

Source: Shamir 1979, "How to share a secret", https://doi.org/10.1145/359168.359176.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from fedpipe.secure_aggregation.refusal import Refused

PRIME = 2**256 + 297  # the smallest prime above all secrets of 32 bytes
SECRET_BYTES, SHARE_BYTES = 32, 33
_SPARE_BYTES = 48  # reduced modulo the prime, 384 random bits are uniform but for 2^-128


def split(secret: bytes, sites: Iterable[int], threshold: int, random: Callable[[int], bytes]) -> dict[int, bytes]:
    """Shares of a secret of 32 bytes, 33 bytes each, by site.

    Args:
      secret: 32 bytes.
      sites: Their numbers, which are not 0.
      threshold: How many shares give the secret.
      random: (n) -> n bytes that nobody can predict.
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a secret has {SECRET_BYTES} bytes, not {len(secret)}")
    coefficients = [int.from_bytes(random(_SPARE_BYTES), "little") % PRIME for _ in range(threshold - 1)]
    coefficients.append(int.from_bytes(secret, "little"))
    return {site: _value_at(coefficients, site).to_bytes(SHARE_BYTES, "little") for site in sites}


def _value_at(coefficients: Sequence[int], x: int) -> int:
    """The polynomial at x, its highest coefficient first (Horner)."""
    if x % PRIME == 0:
        raise ValueError("the share at 0 is the secret")
    value = 0
    for coefficient in coefficients:
        value = (value * x + coefficient) % PRIME
    return value


def weights_at_zero(sites: Sequence[int]) -> dict[int, int]:
    """Lagrange's weights of these sites' shares; the same for all secrets that were shared with them.

    Raises:
      Refused: A site is there twice.
    """
    if len(set(sites)) != len(sites):
        raise Refused("two shares of one site do not count as two")
    weights = {}
    for site in sites:
        above, below = 1, 1
        for other in sites:
            if other != site:
                above, below = above * -other % PRIME, below * (site - other) % PRIME
        weights[site] = above * pow(below, -1, PRIME) % PRIME
    return weights


def combine(weights: Mapping[int, int], shares: Mapping[int, bytes]) -> bytes:
    """The secret, from the shares of the sites that have a weight; something else if one of them is wrong.

    Raises:
      Refused: A share has another length, is no element of the field, or the result is no secret of 32 bytes.
    """
    total = sum(weight * element(shares[site], site) for site, weight in weights.items()) % PRIME
    if total >= 1 << (8 * SECRET_BYTES):
        raise Refused("the shares are not those of a secret")
    return total.to_bytes(SECRET_BYTES, "little")


def element(share: bytes, site: int) -> int:
    """A share as a number. Raises Refused if it is none."""
    value = int.from_bytes(share, "little")
    if len(share) != SHARE_BYTES or value >= PRIME:
        raise Refused(f"site {site} sent a share that is no element of the field", site)
    return value
