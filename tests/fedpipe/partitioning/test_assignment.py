"""What holds for every scheme and every combination of two, over many sizes and seeds."""

import importlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedpipe.allocation.counts import LEFT_OUT
from fedpipe.config import Partition
from fedpipe.contracts.partition import PARTITIONERS, QUANTITIES
from fedpipe.contracts.registry import Registry
from fedpipe.errors import PipelineError
from fedpipe.partitioning.assignment import assign, client_names
from fedpipe.partitioning.partition_tables import assignment_table, label_table, samples_by_client
from tests import ROOT
from tests.fedpipe.partitioning.settings import balanced_labels, counts_of, csv, partition

DECIDE_SIZES = ("dirichlet", "by_column")  # whatever their params
COMBINATIONS = [
    (scheme, quantity)
    for scheme in PARTITIONERS.names
    if not PARTITIONERS.of(scheme).AT_SITES
    for quantity in QUANTITIES.names
    if quantity == "even" or scheme not in DECIDE_SIZES
]
DRAWN = ("lognormal", "dirichlet_quantity")
RANDOM = [
    (scheme, quantity)
    for scheme, quantity in COMBINATIONS
    if scheme != "by_column" and (scheme != "contiguous" or quantity in DRAWN)
]


def request(scheme: str, quantity: str, labels: np.ndarray, folder: Path, **changed: Any) -> Partition:
    """A request that ``labels`` can meet, whatever else is changed: what a scheme needs to be given is made up here."""
    clients, leave_out, seed = changed["clients"], changed["leave_out"], changed["seed"]
    rng = np.random.default_rng(seed)
    sizes = rng.multinomial(len(labels) - leave_out - 2 * clients, np.full(clients, 1 / clients)) + 2
    who = np.concatenate([np.repeat(np.arange(clients), sizes), np.full(leave_out, LEFT_OUT)])
    rows = [f"{sample},{'' if client == LEFT_OUT else client}" for sample, client in enumerate(rng.permutation(who))]
    mix = np.bincount(labels) / len(labels)  # what the samples can always make
    if quantity != "even":
        changed[quantity] = changed.pop(quantity, {}) | {"min_size": changed.pop("min_size", 2)}
    if quantity == "sizes":
        changed["sizes"] |= {"values": sizes.tolist()}
    if scheme == "by_column":
        changed["by_column"] = csv(folder / "clients.csv", "\n".join(["sample,client", *rows, ""]))
    changed["pathological"] = changed.pop("pathological", {}) | {"keep_sizes": quantity != "even"}
    return partition(
        scheme=scheme,
        quantity=quantity,
        dirichlet={
            "alpha": changed.pop("alpha", 0.5),
            "min_size": 0,
            "self_balancing": changed.pop("balancing", False),
        },
        distribution={"values": [mix.tolist()] * clients},
        **{name: value for name, value in changed.items() if name != "min_size"},
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
    scheme, quantity = combination
    assume(clients * 2 <= samples - leave_out)
    labels = balanced_labels(samples)
    params = request(
        scheme,
        quantity,
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
        assert any(words in str(refused) for words in ("leaves some", "did not work out", "which cannot be of"))
        return
    assert (assignment == LEFT_OUT).sum() == leave_out
    assert set(np.unique(assignment)) <= {LEFT_OUT, *range(clients)}
    members = samples_by_client(assignment, clients)
    given_out = np.concatenate(members)
    assert len(members) == clients and len(given_out) == len(set(given_out)) == samples - leave_out
    assert all((np.diff(mine) > 0).all() for mine in members)
    assert assign(labels, params).tobytes() == assignment.tobytes()
    sizes = [len(mine) for mine in members]
    if quantity != "even":
        assert min(sizes) >= 2
        if quantity not in DRAWN:  # sizes that are no draw are exact, whoever deals
            made = QUANTITIES.of(quantity).sizes
            assert sizes == made(len(given_out), clients, params.params_of("quantity"), None).tolist()
    elif not PARTITIONERS.of(scheme).decides_sizes(params.params_of("scheme")):
        assert max(sizes) - min(sizes) <= 1
    assert min(sizes) > 0 or scheme == "dirichlet"  # whose min_size of 0 allows it


@pytest.mark.parametrize(("scheme", "quantity"), RANDOM)
def test_another_seed_gives_another_partition(scheme: str, quantity: str, tmp_path: Path) -> None:
    labels = balanced_labels(500)
    many = {"classes_per_client": 8, "choice": "random"}  # so that unequal sizes can be made of them
    params = request(
        scheme,
        quantity,
        labels,
        tmp_path,
        clients=10,
        leave_out=0,
        seed=1,
        pathological=many,
        min_size=8,
    )
    other = params.model_copy(update={"seed": 2})
    assert (assign(labels, params) != assign(labels, other)).any()


def test_contiguous_is_the_baseline_recipe() -> None:
    assignment = assign(balanced_labels(60_000), partition(scheme="contiguous", clients=600))
    np.testing.assert_array_equal(assignment, np.arange(60_000) // 100)


@pytest.mark.parametrize("quantity", ["even", "linear"])
def test_contiguous_leaves_out_the_last(quantity: str) -> None:
    params = partition(scheme="contiguous", quantity=quantity, leave_out=10)
    assignment = assign(balanced_labels(100), params)
    assert (assignment[90:] == LEFT_OUT).all() and (np.diff(assignment[:90]) >= 0).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"clients": 101}, "'partition.clients' is 101, but there are only 100 samples"),
        ({"leave_out": 95}, "there are only 5 samples"),
        ({"leave_out": 1000}, "there are only 0 samples"),
    ],
)
@pytest.mark.parametrize(("scheme", "quantity"), [("iid", "even"), ("iid", "linear"), ("dirichlet", "even")])
def test_fewer_samples_than_clients(scheme: str, quantity: str, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        assign(balanced_labels(100), partition(scheme=scheme, quantity=quantity, **changed))


def test_a_hundred_thousand_clients(tmp_path: Path) -> None:
    """No scheme walks over clients x samples: that would be 60 billion steps."""
    labels = np.tile(balanced_labels(60_000), 10)
    for scheme, quantity in (
        ("iid", "even"),
        ("shards", "even"),
        ("pathological", "even"),
        ("inner_dirichlet", "lognormal"),
    ):
        counts = counts_of(labels, partition(scheme=scheme, quantity=quantity, clients=100_000))
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


@pytest.fixture
def dropped(tmp_path: Path) -> Iterator[Callable[[Registry[Any], str], None]]:
    """Drops a file ``mine.py`` of the given code into a folder of choices, as far as Python can see."""
    ended = ExitStack()

    def drop(registry: Registry[Any], code: str) -> None:
        (tmp_path / "mine.py").write_text(f"import numpy as np\n{code}\n", encoding="utf-8")
        places = importlib.import_module(registry.folder.package).__path__
        places.append(str(tmp_path))
        ended.callback(registry.folder.__dict__.pop, "names", None)
        ended.callback(registry._choices.pop, "mine", None)
        ended.callback(sys.modules.pop, f"{registry.folder.package}.mine", None)
        ended.callback(places.remove, str(tmp_path))
        registry.folder.__dict__.pop("names", None)
        importlib.invalidate_caches()

    with ended:
        yield drop


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("_x = 1", "fedpipe/partitioners/mine.py does not define 'assign'"),
        (
            "def assign(l, s, p, r): return np.zeros(len(l))",
            "must return for each of the 90 samples a client from 0 to",
        ),
        ("def assign(l, s, p, r): return np.zeros(3, int)", "must return for each of the 90 samples"),
        ("def assign(l, s, p, r): return np.full(len(l), len(s))", "a client from 0 to 9, or -1 for one that is left"),
        ("def assign(l, s, p, r): return np.full(len(l), -1)", "leaves out 100 samples, not the 10 of 'partition.leav"),
        ("def assign(l, s, p, r): return np.zeros(len(l), int)", "gives client 0 90 samples, not the 9 of its 'sizes'"),
    ],
)
def test_a_scheme_that_does_not_keep_to_its_word(
    dropped: Callable[[Registry[Any], str], None], code: str, message: str
) -> None:
    dropped(PARTITIONERS, code)
    with pytest.raises(PipelineError, match=re.escape(message)):
        assign(balanced_labels(100), partition(scheme="mine", mine={}, leave_out=10))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("_x = 1", "fedpipe/quantities/mine.py does not define 'sizes'"),
        (
            "def sizes(n, c, p, r): return np.full(c, n / c)",
            "must return whole numbers from 0 on, one for each of the 10",
        ),
        ("def sizes(n, c, p, r): return np.ones(c, int)", "must return numbers that sum to the 100 samples, not to 10"),
    ],
)
def test_a_quantity_that_does_not_keep_to_its_word(
    dropped: Callable[[Registry[Any], str], None], code: str, message: str
) -> None:
    dropped(QUANTITIES, code)
    with pytest.raises(PipelineError, match=re.escape(message)):
        assign(balanced_labels(100), partition(quantity="mine", mine={}))


def test_no_file_imports_what_takes_seconds() -> None:
    """The check of params.yaml imports each file that has a section there, in every stage."""
    modules = [
        f"{registry.folder.package}.{name}" for registry in (PARTITIONERS, QUANTITIES) for name in registry.names
    ]
    code = f"import sys, {', '.join(modules)}; print({{'tensorflow', 'mlflow', 'pandas', 'scipy'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_every_file_says_where_it_is_from() -> None:
    for name in PARTITIONERS.names:
        assert "\nSource: " in (importlib.import_module(f"{PARTITIONERS.folder.package}.{name}").__doc__ or ""), name
