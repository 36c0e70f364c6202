"""Honest sites and an honest coordinator: the sum is exact, or there is none."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpipe.secure_aggregation import values
from fedpipe.secure_aggregation.coordinator import Phase
from fedpipe.secure_aggregation.coordinator_messages import largest_request
from fedpipe.secure_aggregation.refusal import Refused
from fedpipe.secure_aggregation.vector import Vector
from tests.fedpipe.secure_aggregation.federation import MODEL, Federation, setting_of


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_the_sum_is_exact_or_refused(data: st.DataObject) -> None:
    """Any number of sites, bits and colluders; sites leave before any of the five steps."""
    sites = data.draw(st.integers(3, 8))
    setting = setting_of(
        range(1, sites + 1),
        data.draw(st.integers(0, sites - 2)),
        bits=data.draw(st.integers(8, 62)),
        length=data.draw(st.integers(1, 70)),
        quantities=data.draw(st.integers(0, 3)),
    )
    roster = setting.roster
    number = st.sets(st.integers(1, sites), max_size=2)
    dropouts = {phase: data.draw(number) for phase in Phase if phase != Phase.DONE}
    left, survivors, possible = set(roster.sites), set(), True
    for phase, gone in dropouts.items():
        left -= gone
        survivors = set(left) if phase == Phase.MASK else survivors
        possible &= len(left) >= (roster.threshold if phase >= Phase.AGREE else roster.minimum)
    with tempfile.TemporaryDirectory() as folder:
        federation = Federation(Path(folder), setting)
        federation.begin()
        if possible:
            federation.run(dropouts)
            assert federation.coordinator.survivors == survivors and federation.is_sum_of(survivors)
        else:
            with pytest.raises(Refused, match="are needed"):
                federation.run(dropouts)
        federation.close()


def test_rounds_follow_each_other_and_each_has_one_sum(tmp_path: Path) -> None:
    federation = Federation(tmp_path, setting_of(range(1, 5)))
    for number in (1, 2, 3):
        federation.begin(number, model=bytes([number]) * 32)
        federation.run({Phase.MASK: [number]})
        assert federation.is_sum_of({1, 2, 3, 4} - {number})
    federation.begin(3, attempt=1, model=bytes([3]) * 32)
    with pytest.raises(Refused, match="round 3 was revealed before, and a round has one sum"):
        federation.phase()


def test_an_attempt_without_a_sum_is_followed_by_another_one(tmp_path: Path) -> None:
    federation = Federation(tmp_path, setting_of(range(1, 5)))
    federation.begin()
    federation.until(Phase.AGREE)
    federation.phase()  # all have signed, and nobody has revealed
    federation.begin(attempt=1)
    federation.run({Phase.KEYS: [2]})
    assert federation.is_sum_of({1, 3, 4})
    with pytest.raises(Refused, match="attempt 1 of round 1 was begun before"):
        federation.sites[2].keys(federation.coordinator.begin.encode(), federation.coordinator.begin.model)
        federation.restart(2)
        federation.sites[1].keys(federation.coordinator.begin.encode(), federation.coordinator.begin.model)


def test_a_site_finds_the_step_of_a_message_by_itself(tmp_path: Path) -> None:
    federation = Federation(tmp_path, setting_of(range(1, 4)))
    federation.begin()
    while federation.coordinator.phase != Phase.DONE:
        for site, request in federation.coordinator.requests().items():
            assert len(request) <= largest_request(federation.setting)
            answer = federation.sites[site].answer(request, MODEL, federation.summands[site].copy)
            federation.coordinator.receive(site, answer)
        federation.coordinator.close()
    assert federation.is_sum_of({1, 2, 3})
    for wrong in (b"", b"fpsa", b"fpsa\1", answer, b"x" + request[1:], request[:4] + b"\2" + request[5:]):
        with pytest.raises(Refused, match="no message of a coordinator"):
            federation.sites[1].answer(wrong, MODEL, federation.summands[1].copy)


def test_the_vector_is_neither_computed_nor_masked_a_second_time(tmp_path: Path) -> None:
    federation = Federation(tmp_path, setting_of(range(1, 4)))
    federation.begin()
    federation.until(Phase.MASK)
    request = federation.coordinator.requests()[1]
    first = federation.answer(1, request)

    def again() -> Vector:
        raise AssertionError("the values were computed again")

    assert federation.sites[1].mask(request, again) == first


def test_what_leaves_a_site_looks_uniform(tmp_path: Path) -> None:
    """Equal summands, seen alone, and as sums and differences of two: byte frequencies by chi-squared (255 degrees)."""
    federation = Federation(tmp_path, setting_of(range(1, 4), length=100_000, quantities=0), fixed=True)
    federation.summands = {site: Vector(np.full(100_000, site, "<u4"), np.zeros(0, "<u8")) for site in (1, 2, 3)}
    federation.begin()
    federation.until(Phase.MASK)
    sent = [np.frombuffer(answer[48:], "<u4") for answer in federation.phase().values()]
    for words in [*sent, sent[0] - sent[1], sent[0] + sent[1]]:
        counts = np.bincount(words.view(np.uint8), minlength=256)
        assert 160 < ((counts - 1562.5) ** 2 / 1562.5).sum() < 370


@pytest.mark.parametrize("changed", ["type", "length", "bits"])
def test_values_of_another_size_or_range_are_refused(tmp_path: Path, changed: str) -> None:
    federation = Federation(tmp_path, setting_of(range(1, 4), bits=20))
    wrong = {"type": np.zeros(10, "<i4"), "length": np.zeros(11, "<u4"), "bits": np.full(10, 1 << 20, "<u4")}
    federation.summands[1] = Vector(wrong[changed], federation.summands[1].quantities)
    federation.begin()
    federation.until(Phase.MASK)
    with pytest.raises(Refused, match=r"weights are|the sum has 10 weights|more than 20 bits"):
        federation.phase()


@pytest.mark.parametrize("bits", [16, 32, 62])
def test_the_sum_has_the_bits_of_the_simulated_secure_sum(tmp_path: Path, bits: int) -> None:
    """`secure_sum.encode` at each site, the protocol with one dropout, `secure_sum.finish` at the coordinator."""
    from fedpipe.aggregators import secure_sum
    from fedpipe.baseline import train_settings
    from fedpipe.lazy import tf
    from fedpipe.learning.interface import Client
    from fedpipe.learning.task import Task

    own = {"aggregator": "secure_sum", "client_weighting": "uniform", "secure_sum": {"bits": bits}}
    settings = train_settings(model="logistic_regression", **own)
    task, weight, shapes = Task(None, settings, 5), tf.constant(1.0), [[78, 10], [10]]  # type: ignore[arg-type]
    encoded = {}
    for site in range(1, 6):
        update = [tf.random.stateless_normal(shape, [site, 7]) * 0.01 for shape in shapes]
        encoded[site] = secure_sum.encode(task, (), update, weight, Client(*[None] * 4))  # type: ignore[arg-type]
    setting = setting_of(range(1, 6), 1, bits=bits, length=790, quantities=0)
    federation = Federation(tmp_path, setting)
    for site, parts in encoded.items():
        federation.summands[site] = Vector(values.words([part.numpy() for part in parts], bits), np.zeros(0, "<u8"))
    federation.begin()
    summed = values.tensors(federation.run({Phase.MASK: [4]}).weights, shapes)
    total = [tf.zeros(shape, tf.int64) for shape in shapes]
    for site in (1, 2, 3, 5):
        total = [secure_sum.merge(a, b) for a, b in zip(total, encoded[site], strict=True)]
    means = [
        [part.numpy().tobytes() for part in secure_sum.finish(task, (), integers, tf.constant(4.0), 1)[0]]
        for integers in (total, [tf.constant(part) for part in summed])
    ]
    assert means[0] == means[1] and any(means[0][0])
