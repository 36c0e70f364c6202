"""The rules of a promotion as functions of figures."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpipe.config import Promote
from fedpipe.config.judge import McNemar
from operations.promote.rules import Measured, accuracy, judge, mcnemar, worst_client


@pytest.mark.parametrize(
    ("challenger", "champion", "margin", "holds"),
    [
        (0.80, 0.79, 0.0, True),
        (0.79, 0.79, 0.0, False),  # a tie keeps the champion
        (0.79, 0.80, 0.0, False),
        (0.79, 0.79, 0.01, True),
        (0.781, 0.79, 0.01, True),
        (0.78, 0.79, 0.01, False),  # 0.79 - 0.78 > 0.01 in floating point, but it is the margin
        (0.77, 0.79, 0.01, False),
    ],
)
def test_accuracy(challenger: float, champion: float, margin: float, holds: bool) -> None:
    rule = accuracy(challenger, champion, margin)
    assert rule.holds is holds and f"{challenger:.4f}" in rule.sentence and f"{champion:.4f}" in rule.sentence
    assert ("not above" in rule.sentence) is not holds


@pytest.mark.parametrize(
    ("challenger", "champion", "margin", "holds"),
    [(0.5, 0.5, 0.0, True), (0.49, 0.5, 0.0, False), (0.48, 0.5, 0.02, True), (0.47, 0.5, 0.02, False)],
)
def test_worst_client(challenger: float, champion: float, margin: float, holds: bool) -> None:
    rule = worst_client(challenger, champion, margin, "its own test samples")
    assert "on its own test samples is" in rule.sentence
    assert rule.holds is holds and ("is not below the champion's 0.5000" in rule.sentence) is holds


def test_a_withheld_worst_client_is_no_rule() -> None:
    settings = Promote(
        when="merged", accuracy_margin=0.0, worst_client_margin=0.0, mcnemar=McNemar(level=0.05, require="better")
    )
    ours, theirs = (Measured(np.array(right), 0.5, "none") for right in ([True, True], [True, False]))
    assert [rule.name for rule in judge(settings, ours, theirs)] == ["accuracy", "worst_client", "mcnemar"]
    secret = Measured(ours.right, None, "none")
    for pair in ((secret, theirs), (ours, secret), (secret, secret)):
        assert [rule.name for rule in judge(settings, *pair)] == ["accuracy", "mcnemar"]


def images(gained: int, lost: int, both: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """What challenger and champion know of images of which each alone knows so many."""
    return (
        np.array([True] * gained + [False] * lost + [True] * both),
        np.array([False] * gained + [True] * lost + [True] * both),
    )


def tail(discordant: int, at_least: int) -> float:
    """P(X >= at_least) for X ~ Binomial(discordant, 1/2), from its definition."""
    return sum(math.comb(discordant, k) for k in range(at_least, discordant + 1)) / 2**discordant


@given(st.integers(0, 40), st.integers(0, 40), st.floats(0.001, 0.5))
def test_mcnemar_is_the_binomial_tail(gained: int, lost: int, level: float) -> None:
    ours, theirs = images(gained, lost)
    better = mcnemar(ours, theirs, McNemar(level=level, require="better"))
    not_worse = mcnemar(ours, theirs, McNemar(level=level, require="not_worse"))
    p_better, p_worse = tail(gained + lost, gained), tail(gained + lost, lost)
    if not math.isclose(p_better, level):
        assert better.holds == (p_better < level)
    if not math.isclose(p_worse, level):
        assert not_worse.holds == (p_worse >= level)
    assert f"p = {p_better:.3g}" in better.sentence and f"p = {p_worse:.3g}" in not_worse.sentence
    assert not (better.holds and not not_worse.holds)


def test_mcnemar_says_what_was_found() -> None:
    strict, lenient = McNemar(level=0.05, require="better"), McNemar(level=0.05, require="not_worse")
    sentences = {
        (gained, lost, rule.require): mcnemar(*images(gained, lost), rule).sentence
        for gained, lost in ((10, 1), (1, 10), (0, 0))
        for rule in (strict, lenient)
    }
    assert ": significantly better (exact McNemar, p = 0.00586, level 0.05)" in sentences[10, 1, "better"]
    assert ": not significantly better" in sentences[1, 10, "better"]
    assert ": not significantly worse" in sentences[10, 1, "not_worse"]
    assert ": significantly worse (exact McNemar, p = 0.00586" in sentences[1, 10, "not_worse"]
    assert "p = 1," in sentences[0, 0, "better"] and "p = 1," in sentences[0, 0, "not_worse"]
    assert "1 test images are known to the challenger only and 10 to the champion only" in sentences[1, 10, "not_worse"]
    numbers = mcnemar(np.array([0.5, 0.9, -2.0]), np.array([0.4, 0.9, 0.1]), lenient).sentence
    assert numbers.startswith("1 predictions of the challenger are closer and 1 of the champion: not significantly")
