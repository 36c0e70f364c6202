"""What holds for every scheme and every combination of two, over many sizes and seeds."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedpipe.config import QUANTITY_NAMES, SCHEME_NAMES, Partition
from fedpipe.config.schemes import Quantity
from fedpipe.errors import PipelineError
from fedpipe.partitioning.schemes import LABELS, LEFT_OUT, NATURAL, QUANTITY, assign, client_names
from fedpipe.partitioning.tables import assignment_table, label_table, samples_by_client
from tests.fedpipe.partitioning.asked import balanced_labels, counts_of, csv, partition

DEALERS: tuple[str, ...] = get_args(Quantity.model_fields["labels"].annotation)
COMBINATIONS = [(scheme, "iid") for scheme in SCHEME_NAMES if scheme not in QUANTITY_NAMES] + [
    (scheme, dealer) for scheme in QUANTITY_NAMES for dealer in DEALERS
]
RANDOM = [
    (scheme, dealer)
    for scheme, dealer in COMBINATIONS
    if scheme not in ("contiguous", NATURAL)
    and (dealer != "contiguous" or scheme in ("lognormal", "dirichlet_quantity"))
]


def test_every_scheme_of_the_params_is_here() -> None:
    assert {*LABELS, *QUANTITY, NATURAL} == set(SCHEME_NAMES)
    assert tuple(QUANTITY) == QUANTITY_NAMES
    assert set(DEALERS) <= set(LABELS)


def request(scheme: str, dealer: str, labels: np.ndarray, folder: Path, **changed: Any) -> Partition:
    """A request that ``labels`` can meet, whatever else is changed: what a scheme needs to be given is made up here."""
    clients, leave_out, seed = changed["clients"], changed["leave_out"], changed["seed"]
    rng = np.random.default_rng(seed)
    sizes = rng.multinomial(len(labels) - leave_out - 2 * clients, np.full(clients, 1 / clients)) + 2
    who = np.concatenate([np.repeat(np.arange(clients), sizes), np.full(leave_out, LEFT_OUT)])
    rows = [f"{sample},{'' if client == LEFT_OUT else client}" for sample, client in enumerate(rng.permutation(who))]
    mix = np.bincount(labels) / len(labels)  # what the samples can always make
    return partition(
        scheme=scheme,
        quantity=changed.pop("quantity", {"labels": dealer, "min_size": 2}),
        dirichlet={
            "alpha": changed.pop("alpha", 0.5),
            "min_size": 0,
            "self_balancing": changed.pop("balancing", False),
        },
        sizes={"values": sizes.tolist()},
        distribution={"values": [mix.tolist()] * clients},
        by_column=csv(folder / "clients.csv", "\n".join(["sample,client", *rows, ""])) if scheme == NATURAL else {},
        **changed,
    )


@given(
    combination=st.sampled_from(COMBINATIONS),
    samples=st.integers(20, 400),
    clients=st.integers(1, 40),
    leave_out=st.integers(0, 50),
    seed=st.integers(0, 2**32 - 1),
    alpha=st.floats(1e-3, 1e3),
    choice=st.sampled_from(["random", "deterministic", "first_deterministic"]),
    classes=st.integers(1, 10),
    balancing=st.booleans(),
)
@settings(max_examples=400)
def test_every_sample_has_one_client_unless_left_out(
    combination: tuple[str, str],
    samples: int,
    clients: int,
    leave_out: int,
    seed: int,
    alpha: float,
    choice: str,
    classes: int,
    balancing: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    scheme, dealer = combination
    assume(clients * 2 <= samples - leave_out)
    labels = balanced_labels(samples)
    params = request(
        scheme,
        dealer,
        labels,
        tmp_path_factory.getbasetemp(),
        clients=clients,
        leave_out=leave_out,
        seed=seed,
        alpha=alpha,
        balancing=balancing,
        inner_dirichlet={"alpha": alpha},
        dirichlet_quantity={"alpha": alpha},
        lognormal={"sigma": alpha},
        exponential={"rate": alpha},
        pathological={"classes_per_client": classes, "choice": choice},
    )
    try:
        assignment = assign(labels, params)
    except PipelineError as refused:  # the only requests here that samples may not meet
        assert "pathological" in combination
        assert any(said in str(refused) for said in ("leaves some", "did not work out", "which cannot be of"))
        return
    assert (assignment == LEFT_OUT).sum() == leave_out
    assert set(np.unique(assignment)) <= {LEFT_OUT, *range(clients)}
    members = samples_by_client(assignment, clients)
    given_out = np.concatenate(members)
    assert len(members) == clients and len(given_out) == len(set(given_out)) == samples - leave_out
    assert all((np.diff(mine) > 0).all() for mine in members)
    assert assign(labels, params).tobytes() == assignment.tobytes()
    sizes = [len(mine) for mine in members]
    if scheme in QUANTITY_NAMES:
        assert min(sizes) >= 2
        if scheme not in ("lognormal", "dirichlet_quantity"):  # sizes that are no draw are exact, whoever deals
            assert sizes == QUANTITY[scheme](len(given_out), params, np.random.default_rng()).tolist()
    elif scheme in ("contiguous", "iid", "shards", "inner_dirichlet", "distribution"):
        assert max(sizes) - min(sizes) <= 1
    assert min(sizes) > 0 or scheme == "dirichlet"  # whose min_size of 0 allows it


@pytest.mark.parametrize(("scheme", "dealer"), RANDOM)
def test_another_seed_gives_another_partition(scheme: str, dealer: str, tmp_path: Path) -> None:
    labels = balanced_labels(500)
    many = {"classes_per_client": 8, "choice": "random"}  # so that unequal sizes can be made of them
    params = request(
        scheme,
        dealer,
        labels,
        tmp_path,
        clients=10,
        leave_out=0,
        seed=1,
        pathological=many,
        quantity={"labels": dealer, "min_size": 8},
    )
    other = params.model_copy(update={"seed": 2})
    assert (assign(labels, params) != assign(labels, other)).any()


def test_contiguous_is_the_seed_recipe() -> None:
    assignment = assign(balanced_labels(60_000), partition(scheme="contiguous", clients=600))
    np.testing.assert_array_equal(assignment, np.arange(60_000) // 100)


@pytest.mark.parametrize("scheme", ["contiguous", "linear"])
def test_contiguous_leaves_out_the_last(scheme: str) -> None:
    params = partition(scheme=scheme, leave_out=10, quantity={"labels": "contiguous"})
    assignment = assign(balanced_labels(100), params)
    assert (assignment[90:] == LEFT_OUT).all() and (np.diff(assignment[:90]) >= 0).all()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"clients": 101}, "'partition.clients' is 101, but there are only 100 samples"),
        ({"leave_out": 95}, "there are only 5 samples"),
        ({"leave_out": 1000}, "there are only 0 samples"),
    ],
)
@pytest.mark.parametrize("scheme", ["iid", "linear", "dirichlet"])
def test_fewer_samples_than_clients(scheme: str, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        assign(balanced_labels(100), partition(scheme=scheme, **changed))


def test_a_hundred_thousand_clients(tmp_path: Path) -> None:
    """No scheme walks over clients x samples: that would be 60 billion steps."""
    labels = np.tile(balanced_labels(60_000), 10)
    for scheme, dealer in (("iid", ""), ("shards", ""), ("pathological", ""), ("lognormal", "inner_dirichlet")):
        quantity = {"labels": dealer} if dealer else {}
        counts = counts_of(labels, partition(scheme=scheme, clients=100_000, quantity=quantity))
        assert counts.sum() == 600_000 and counts.sum(axis=1).min() > 0


def test_only_a_natural_partition_has_names() -> None:
    assert client_names(partition(scheme="iid")) is None


def test_tables_agree() -> None:
    labels = balanced_labels(200)
    assignment = assign(labels, partition(scheme="dirichlet", leave_out=20, dirichlet={"min_size": 0}))
    table = assignment_table(labels, assignment)
    assert list(table.columns) == ["sample", "label", "client"] and table["client"].isna().sum() == 20
    counted = table.dropna().groupby(["client", "label"]).size()
    wide = label_table(labels, assignment, 10, 10)
    assert wide.to_numpy().sum() == 180
    assert all(wide.loc[client, label] == count for (client, label), count in counted.items())
