"""What defines each scheme of label skew, and what it refuses."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fedpipe.allocation.controlled_rounding import controlled_rounding
from fedpipe.contracts.partition import QUANTITIES
from fedpipe.errors import PipelineError
from fedpipe.partitioning.assignment import assign
from fedpipe.seeds import Purpose, generator
from tests.fedpipe.partitioning.settings import balanced_labels, counts_of, partition


def uneven_labels(samples: int, seed: int, classes: int = 10) -> np.ndarray:
    """Some labels are much more frequent than others."""
    shares = np.random.default_rng(seed).dirichlet(np.full(classes, 2.0))
    return np.random.default_rng(seed).choice(classes, samples, p=shares).astype(np.uint8)


def test_shards_gives_few_labels() -> None:
    """McMahan et al. 2017: 100 clients, two shards of 300 each, most clients with two digits only."""
    counts = counts_of(balanced_labels(60_000), partition(scheme="shards", clients=100))
    assert (counts.sum(axis=1) == 600).all()
    assert ((counts > 0).sum(axis=1) <= 4).all() and np.median((counts > 0).sum(axis=1)) == 2


def test_shards_of_given_sizes() -> None:
    """A piece is a run of the sorted labels, so two pieces of one label each, or across one border."""
    counts = counts_of(
        balanced_labels(60_000), partition(scheme="shards", quantity="linear", clients=100, linear={"min_size": 2})
    )
    assert ((counts > 0).sum(axis=1) <= 4).all() and np.median((counts > 0).sum(axis=1)) == 2


def label_entropy(scheme: str, alpha: float) -> float:
    params = partition(scheme=scheme, clients=20, **{scheme: {"alpha": alpha}})
    counts = counts_of(balanced_labels(20_000), params)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return float(-(shares * np.log(np.maximum(shares, 1e-12))).sum(axis=1).mean())


@pytest.mark.parametrize("scheme", ["dirichlet", "inner_dirichlet"])
def test_smaller_alpha_is_stronger_skew(scheme: str) -> None:
    entropy = [label_entropy(scheme, alpha) for alpha in (0.1, 1.0, 100.0)]
    assert entropy[0] < entropy[1] < entropy[2] <= np.log(10) and entropy[2] > 0.98 * np.log(10)


@pytest.mark.parametrize("self_balancing", [False, True])
def test_dirichlet_keeps_the_minimum_size(self_balancing: bool) -> None:
    dirichlet = {"alpha": 0.5, "min_size": 40, "self_balancing": self_balancing}
    counts = counts_of(balanced_labels(6_000), partition(scheme="dirichlet", clients=30, dirichlet=dirichlet))
    assert counts.sum(axis=1).min() >= 40


@given(clients=st.integers(1, 50), seed=st.integers(0, 2**32 - 1), alpha=st.floats(0.01, 100))
def test_a_full_client_gets_no_further_class(clients: int, seed: int, alpha: float) -> None:
    labels = uneven_labels(500, seed)
    dirichlet = {"alpha": alpha, "min_size": 0, "self_balancing": True}
    counts = counts_of(labels, partition(scheme="dirichlet", clients=clients, seed=seed, dirichlet=dirichlet))
    before = np.cumsum(counts, axis=1) - counts
    assert (counts[before >= len(labels) / clients] == 0).all()
    assert counts.sum(axis=1).max() <= len(labels) / clients + counts.sum(axis=0).max()


def test_self_balancing_balances() -> None:
    def spread(self_balancing: bool) -> float:
        dirichlet = {"alpha": 0.5, "min_size": 0, "self_balancing": self_balancing}
        requests = [partition(scheme="dirichlet", clients=20, seed=seed, dirichlet=dirichlet) for seed in range(10)]
        return float(np.mean([counts_of(balanced_labels(10_000), request).sum(axis=1).std() for request in requests]))

    assert spread(True) < 0.9 * spread(False)


def test_inner_dirichlet_draws_each_client_s_mix() -> None:
    """With few of the samples dealt out no class runs out, and the mixes are Dir(alpha): mean 1/10 and its variance."""
    alpha, classes, clients = 0.5, 10, 300
    params = partition(scheme="inner_dirichlet", clients=clients, leave_out=0, inner_dirichlet={"alpha": alpha})
    shares = counts_of(balanced_labels(60_000), params) / 200
    # E p^2 - (E p)^2 = (C - 1) / (C^2 (C alpha + 1)); the draw of 200 samples adds E p (1 - p) / 200.
    variance = (classes - 1) / (classes**2 * (classes * alpha + 1))
    expected = variance + (0.1 * 0.9 - variance) / 200
    assert shares.var() == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("alpha", [0.001, 0.5, 1000.0])
def test_inner_dirichlet_outlasts_its_classes(alpha: float) -> None:
    """All samples are dealt out, so that classes run out, one after the other."""
    labels = uneven_labels(3_000, 3)
    counts = counts_of(labels, partition(scheme="inner_dirichlet", clients=7, inner_dirichlet={"alpha": alpha}))
    assert (counts.sum(axis=0) == np.bincount(labels, minlength=10)).all()
    assert np.ptp(counts.sum(axis=1)) <= 1


@given(
    clients=st.integers(1, 60),
    k=st.integers(1, 10),
    seed=st.integers(0, 2**32 - 1),
    choice=st.sampled_from(["random", "deterministic", "first_deterministic"]),
)
def test_pathological_gives_exactly_k_classes(clients: int, k: int, seed: int, choice: str) -> None:
    assume(clients >= 10 or (choice == "deterministic" and clients + k > 10))
    params = partition(
        scheme="pathological", clients=clients, seed=seed, pathological={"classes_per_client": k, "choice": choice}
    )
    labels = np.concatenate([balanced_labels(900), np.zeros(100, np.uint8)])
    try:
        has = (counts := counts_of(labels, params)) > 0
    except PipelineError as refused:
        assert choice == "random" and k == 1 and "leaves some of the 10 classes to no client" in str(refused)
        return
    assert (has.sum(axis=1) == k).all()
    for label, owners in enumerate(has.T):
        assert owners.any() and np.ptp(counts[owners, label]) <= 1
    client = np.arange(clients)
    if choice == "first_deterministic":
        assert has[client, client % 10].all()
    if choice == "deterministic":
        assert all(has[client, (client + i) % 10].all() for i in range(k))


@given(
    quantity=st.sampled_from(["linear", "lognormal", "dirichlet_quantity"]),
    clients=st.integers(10, 60),
    k=st.integers(2, 10),
    seed=st.integers(0, 2**32 - 1),
    choice=st.sampled_from(["random", "first_deterministic"]),
)
def test_pathological_keeps_to_given_sizes(quantity: str, clients: int, k: int, seed: int, choice: str) -> None:
    labels = balanced_labels(3_000)
    params = partition(
        scheme="pathological",
        quantity=quantity,
        clients=clients,
        seed=seed,
        pathological={"classes_per_client": k, "choice": choice, "keep_sizes": True},
        **{quantity: {"min_size": k}},
    )
    try:
        counts = counts_of(labels, params)
    except PipelineError as refused:
        # One client may be larger than its classes together.
        assert k < 10 and ("did not work out" in str(refused) or "leaves some" in str(refused))
        return
    assert ((counts > 0).sum(axis=1) == k).all() and (counts.sum(axis=0) == 300).all()
    made = QUANTITIES.of(quantity).sizes
    sizes = made(3_000, clients, params.params_of("quantity"), generator(seed, Purpose.PARTITION))
    np.testing.assert_array_equal(counts.sum(axis=1), sizes)


def test_pathological_keeps_to_even_sizes() -> None:
    """Which the even split of each class does not give, because classes have more and fewer owners."""
    request = {"classes_per_client": 4, "choice": "random"}
    labels = balanced_labels(600)
    split, kept = (
        counts_of(labels, partition(scheme="pathological", clients=12, pathological=request | {"keep_sizes": keep}))
        for keep in (False, True)
    )
    assert (kept.sum(axis=1) == 50).all() and ((kept > 0).sum(axis=1) == 4).all() and np.ptp(split.sum(axis=1)) > 1


def test_pathological_with_linear_sizes_works() -> None:
    """600 clients of MNIST's size, sizes in the ratio of 1 to 600, two classes each: the fit, not the refusal."""
    params = partition(
        scheme="pathological",
        quantity="linear",
        clients=600,
        linear={"min_size": 2},
        pathological={"classes_per_client": 2, "choice": "first_deterministic", "keep_sizes": True},
    )
    counts = counts_of(balanced_labels(60_000), params)
    assert ((counts > 0).sum(axis=1) == 2).all() and (np.diff(counts.sum(axis=1)) >= 0).all()
    assert np.median(counts.max(axis=1) / counts.sum(axis=1)) < 0.7  # and no class is only a token


@given(data=st.data(), clients=st.integers(1, 30), classes=st.integers(1, 8), seed=st.integers(0, 2**32 - 1))
def test_rounding_keeps_rows_and_columns(data: st.DataObject, clients: int, classes: int, seed: int) -> None:
    """Supply that is just enough for the exact numbers is enough for the rounded ones."""
    rng = np.random.default_rng(seed)
    mixes = rng.dirichlet(np.full(classes, data.draw(st.sampled_from([0.1, 1.0, 1e6]))), clients)
    sizes = rng.integers(0, data.draw(st.sampled_from([2, 7, 100])), clients)
    supply = np.ceil(sizes @ mixes - 1e-9).astype(np.int64)
    counts = controlled_rounding(sizes, mixes, supply, rng)
    assert (counts.sum(axis=1) == sizes).all() and (counts.sum(axis=0) <= supply).all()
    assert (np.abs(counts - sizes[:, None] * mixes) <= 1 + 1e-6).all() and (counts >= 0).all()
    again = controlled_rounding(sizes, counts / np.maximum(sizes, 1)[:, None], counts.sum(axis=0), rng)
    np.testing.assert_array_equal(again, counts)


def test_distribution_of_clients() -> None:
    mixes = np.random.default_rng(0).dirichlet(np.full(10, 1.0), 12)
    params = partition(scheme="distribution", clients=12, leave_out=3_000, distribution={"values": mixes.tolist()})
    counts = counts_of(balanced_labels(6_000), params)
    assert (counts.sum(axis=1) == 250).all() and (np.abs(counts - 250 * mixes) <= 1).all()


def test_distribution_of_labels() -> None:
    split = np.random.default_rng(0).dirichlet(np.full(12, 1.0), 10).T
    distribution = {"values": split.tolist(), "proportions_of": "labels"}
    labels = uneven_labels(6_000, 1)
    counts = counts_of(labels, partition(scheme="distribution", clients=12, distribution=distribution))
    assert (np.abs(counts - split * np.bincount(labels)) < 1).all() and counts.sum() == 6_000


ROWS = np.full((10, 10), 0.1)
REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"scheme": "shards", "clients": 50, "shards": {"shards_per_client": 3}},
        "'partition.shards.shards_per_client' is 3, .*; at most 2 are possible",
    ),
    (
        {"scheme": "shards", "quantity": "linear", "clients": 20},
        "is 2, but the smallest of 20 clients has 1 of the 100 samples",
    ),
    ({"scheme": "dirichlet", "dirichlet": {"min_size": 11}}, "'partition.dirichlet.min_size' is 11: .*at most 10 is"),
    (
        {"scheme": "dirichlet", "dirichlet": {"alpha": 0.01, "min_size": 9}},
        r"in 100 draws with alpha 0.01 the smallest of 10 clients never got more than \d samples; lower min_size",
    ),
    (
        {"scheme": "pathological", "pathological": {"classes_per_client": 11}},
        "have 10 classes; at most 10 are possible",
    ),
    (
        {"scheme": "pathological", "clients": 4},
        "first_deterministic, leaves some of the 10 classes to no client in any of 100 draws, .* "
        "first_deterministic gives out all classes from 10 clients on, deterministic from 9 on",
    ),
    (
        {"scheme": "pathological", "clients": 60, "pathological": {"classes_per_client": 2, "choice": "deterministic"}},
        "12 clients have a class with 10 samples and need at least one each; with choice deterministic "
        "'partition.clients' 50 or 'partition.pathological.classes_per_client' 1 would do",
    ),
    (
        {"scheme": "distribution", "distribution": {"values": np.roll(ROWS, 0).tolist()[:9]}},
        "has 9 rows of 10 proportions, but must have 10 rows .* of 10 ",
    ),
    (
        {"scheme": "distribution", "distribution": {"values": (ROWS * 0.9).tolist()}},
        r"'partition.distribution.values': the proportions of client 0 sum to 0.9, but must sum to 1 \(within 0.001\)",
    ),
    (
        {"scheme": "distribution", "distribution": {"values": (ROWS * 0.9).tolist(), "proportions_of": "labels"}},
        "the proportions of label 0 sum to 0.9",
    ),
    (
        {"scheme": "distribution", "distribution": {"values": [[1.0] + [0.0] * 9] * 10}},
        "ask for 100 samples of a label of which there are 10; .* at most 10 of the 100 samples .* to 90 or more",
    ),
    (
        {"scheme": "distribution", "clients": 20, "distribution": {"values": [[1.0] + [0.0] * 9] * 20}},
        "cannot be dealt to 20 clients of 1 or more samples, because at most 10 samples have these proportions",
    ),
    (
        {
            "scheme": "distribution",
            "distribution": {"values": [[1.0] * 10] + [[0.0] * 10] * 9, "proportions_of": "labels"},
        },
        "gives 9 clients no sample, the first of them client 1",
    ),
]


@pytest.mark.parametrize(("changed", "message"), REFUSED)
def test_impossible_requests_say_what_is_possible(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        assign(balanced_labels(100), partition(**changed))


@given(
    sizes=st.lists(st.integers(1, 12), min_size=2, max_size=6),
    clients=st.integers(1, 40),
    k=st.integers(1, 6),
    choice=st.sampled_from(["random", "deterministic", "first_deterministic"]),
)
def test_what_pathological_offers_is_possible(sizes: list[int], clients: int, k: int, choice: str) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    assume(k <= len(sizes) and clients <= len(labels))
    request = {"classes_per_client": k, "choice": choice}
    try:
        assign(labels, partition(scheme="pathological", clients=clients, pathological=request))
    except PipelineError as error:
        offered = str(error).partition("with choice deterministic ")[2].removesuffix(" would do")
    else:
        return
    for offer in filter(None, offered.split(" or ")):
        fewer = re.search(r"'partition.clients' (\d+)", offer)
        lower = re.search(r"classes_per_client' (\d+)|of (1) class each", offer)
        changed = {"classes_per_client": int(lower[1] or lower[2]) if lower else k, "choice": "deterministic"}
        clients_offered = int(fewer[1]) if fewer else clients
        assign(labels, partition(scheme="pathological", clients=clients_offered, pathological=changed))
