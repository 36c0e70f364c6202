from collections.abc import Callable

import pytest

from fedpipe.secure_aggregation.refusal import Refused
from fedpipe.secure_aggregation.roster import Roster
from fedpipe.secure_aggregation.setting import Setting
from tests.fedpipe.secure_aggregation.federation import public, setting_of


@pytest.mark.parametrize(
    ("sites", "colluding", "threshold", "minimum"),
    [(3, 0, 2, 3), (3, 1, 3, 3), (4, 0, 3, 3), (5, 1, 4, 4), (10, 0, 6, 6), (10, 8, 10, 10), (100, 20, 61, 61)],
)
def test_threshold_and_minimum(sites: int, colluding: int, threshold: int, minimum: int) -> None:
    roster = Roster(tuple(bytes([site] * 32) for site in range(sites)), colluding)
    assert (roster.threshold, roster.minimum) == (threshold, minimum)


def test_two_sets_of_survivors_cannot_both_be_signed() -> None:
    """Honest sites sign once: 2 t > n + c; and a sum can be had when all are there."""
    for sites in range(3, 40):
        for colluding in range(sites - 1):
            roster = Roster(tuple(bytes([site] * 32) for site in range(sites)), colluding)
            assert 2 * roster.threshold > sites + colluding and roster.minimum <= sites
            assert roster.minimum - colluding >= 2  # of the honest sites in a sum, each is hidden by another one


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Roster((public(1), public(2))), "3 to 1000 sites, not 2"),
        (lambda: Roster(tuple(n.to_bytes(32, "little") for n in range(1001))), "3 to 1000 sites, not 1001"),
        (lambda: Roster((public(1), public(2), public(2))), "have the same identity"),
        (lambda: Roster((public(1), public(2), b"short")), "not an Ed25519 public key of 32 bytes"),
        (lambda: Roster((public(1), public(2), public(3)), 2), "0 to 1 may collude, not 2"),
        (lambda: setting_of((1, 2, 3), bits=63), "'bits' of a secure sum is from 8 to 62, not 63"),
        (lambda: setting_of((1, 2, 3), length=0), "'length' of a secure sum is from 1"),
        (lambda: setting_of((1, 2, 3), quantities=1025), "'quantities' of a secure sum"),
        (lambda: setting_of((1, 2, 3), noise=2**60), "'noise per site' of a secure sum"),
        (lambda: setting_of((1, 2, 3), noise=1), "quantities would leave without it"),
        (lambda: Setting(b"", setting_of((1, 2, 3)).roster, 32, 1), "named by 32 bytes, not 0"),
        (lambda: setting_of((1, 2, 3)).roster.identity(0), "site 0 is not in the roster"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(Refused, match=message):
        make()


def test_the_noise_of_a_site_is_enough_without_the_colluding_ones() -> None:
    setting = setting_of(range(1, 11), colluding=2, quantities=0, noise=100)
    assert setting.roster.minimum == 7 and setting.noise_per_site == 20
    assert setting_of((1, 2, 3)).noise_per_site == 0
