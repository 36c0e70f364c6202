import os
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpipe.secure_aggregation import shamir
from fedpipe.secure_aggregation.refusal import Refused
from tests.fedpipe.secure_aggregation.federation import fixed_random

SECRETS = st.binary(min_size=32, max_size=32) | st.sampled_from([bytes(32), b"\xff" * 32])


@settings(deadline=None, max_examples=60)
@given(SECRETS, st.integers(2, 20), st.data())
def test_as_many_shares_as_the_threshold_give_the_secret_and_one_less_does_not(
    secret: bytes, sites: int, data: st.DataObject
) -> None:
    threshold = data.draw(st.integers(2, sites))
    order = data.draw(st.permutations(range(1, sites + 1)))
    shares = shamir.split(secret, order, threshold, os.urandom)
    assert shamir.combine(shamir.weights_at_zero(order[:threshold]), shares) == secret
    fewer = shamir.weights_at_zero(order[: threshold - 1])
    with suppress(Refused):  # then it is no secret at all
        assert shamir.combine(fewer, shares) != secret


def test_fewer_shares_say_nothing() -> None:
    """For each secret there is a polynomial through the same t - 1 shares."""
    shares = shamir.split(bytes(32), (1, 2, 3), 3, os.urandom)
    for other in (b"\x01" * 32, b"\xff" * 32):
        weights = shamir.weights_at_zero((1, 2, 3))
        known = sum(weights[site] * int.from_bytes(shares[site], "little") for site in (1, 2))
        third = (int.from_bytes(other, "little") - known) * pow(weights[3], -1, shamir.PRIME) % shamir.PRIME
        assert shamir.combine(weights, shares | {3: third.to_bytes(33, "little")}) == other


def test_the_modulus_is_prime_and_above_all_secrets() -> None:
    assert shamir.PRIME > 2**256 - 1
    assert all(pow(base, shamir.PRIME - 1, shamir.PRIME) == 1 for base in (2, 3, 5, 7, 11, 13, 17))  # Fermat


def test_a_wrong_share_gives_another_secret() -> None:
    shares = shamir.split(b"s" * 32, (1, 2, 3), 2, os.urandom)
    changed = shares | {2: bytes([shares[2][0] ^ 1]) + shares[2][1:]}
    with suppress(Refused):
        assert shamir.combine(shamir.weights_at_zero((1, 2)), changed) != b"s" * 32


def test_a_share_of_one_site_does_not_count_twice() -> None:
    with pytest.raises(Refused, match="do not count as two"):
        shamir.weights_at_zero((1, 2, 2))


@pytest.mark.parametrize("share", [b"", bytes(32), bytes(34), shamir.PRIME.to_bytes(33, "little"), b"\xff" * 33])
def test_a_share_that_is_no_element_of_the_field_is_refused_with_its_sender(share: bytes) -> None:
    with pytest.raises(Refused, match="site 2 sent a share that is no element") as refused:
        shamir.combine({1: 1, 2: 1}, {1: bytes(33), 2: share})
    assert refused.value.site == 2


def test_a_result_above_all_secrets_is_refused() -> None:
    with pytest.raises(Refused, match="not those of a secret"):
        shamir.combine({1: 1}, {1: (shamir.PRIME - 1).to_bytes(33, "little")})


def test_the_share_at_zero_and_secrets_of_other_lengths_are_mistakes() -> None:
    with pytest.raises(ValueError, match="the share at 0"):
        shamir.split(bytes(32), (0, 1), 2, os.urandom)
    with pytest.raises(ValueError, match="32 bytes, not 16"):
        shamir.split(bytes(16), (1, 2), 2, os.urandom)


def test_shares_of_known_coefficients() -> None:
    """By hand: f(x) = s + a x, with a the first 48 bytes of SHAKE-256 of "shares 0" modulo the prime."""
    secret = bytes(range(32))
    slope = int.from_bytes(fixed_random(b"shares")(48), "little") % shamir.PRIME
    shares = shamir.split(secret, (1, 5), 2, fixed_random(b"shares"))
    for site in (1, 5):
        value = (int.from_bytes(secret, "little") + slope * site) % shamir.PRIME
        assert shares[site] == value.to_bytes(33, "little")
