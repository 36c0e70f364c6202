"""A pool that grows or shrinks: old clients keep their samples, and new ones go where the scheme's meaning has them."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fedpipe.allocation.counts import LEFT_OUT
from fedpipe.allocation.new_samples import additional_sizes
from fedpipe.config import Partition
from fedpipe.datasets.pool import Arrived, TrainingSamples
from fedpipe.errors import PipelineError
from fedpipe.partitioning.assignment import assign
from fedpipe.partitioning.growth import deal, published_clients
from fedpipe.partitioning.validation_samples import sample
from tests.fedpipe.partitioning.settings import balanced_labels, csv, partition

PUBLISHED = 300
LABELS = balanced_labels(PUBLISHED)
# A smaller example would say no more, and takes minutes.
NO_SHRINKING = (Phase.explicit, Phase.generate)
SCHEMES = ["contiguous", "iid", "shards", "dirichlet", "inner_dirichlet", "pathological", "by_column"]


def arrived(size: int, seed: int, names: Sequence[str] = ("ann", "bob", "eve", "zoe")) -> Arrived:
    rng = np.random.default_rng(seed)
    return Arrived(size, np.arange(size), rng.integers(0, 10, size, np.uint8), rng.choice(names, size))


def without(batch: Arrived, client: str) -> Arrived:
    """The batch after its client was withdrawn."""
    assert batch.clients is not None
    kept = batch.clients != client
    return Arrived(batch.came, batch.positions[kept], batch.labels[kept], batch.clients[kept])


def grown(batches: Sequence[Arrived], withdrawn: Sequence[str] = ()) -> TrainingSamples:
    labels = np.concatenate([LABELS, *(batch.labels for batch in batches)])
    images = np.zeros((len(labels), 1, 1, 1), np.uint8)
    return TrainingSamples(images, labels, PUBLISHED, tuple(batches), tuple(withdrawn))


def request(scheme: str, folder: Path, **changed: Any) -> Partition:
    """Seven clients; with names: ann has every third sample, bob and five others the rest, and 20 are left out."""
    if scheme == "by_column":
        names = ["ann", "bob", "ann", "cy", "dan", "fay", "gus", "ann", "hal"]
        rows = [f"{sample},{names[sample % 9]}" for sample in range(PUBLISHED - 20)]
        changed["by_column"] = csv(folder / "writers.csv", "\n".join(["sample,client", *rows, ""]))
    return partition(scheme=scheme, clients=7, leave_out=20, dirichlet={"min_size": 1}, **changed)


def owners(samples: TrainingSamples, params: Partition) -> np.ndarray:
    """The client of each sample that ever came, published ones first: its name, else its number; '-' for none."""
    dealt = deal(samples, params)
    names = np.array([*(map(str, range(7)) if dealt.names is None else dealt.names["name"]), "-"])
    starts = PUBLISHED + np.cumsum([0, *(batch.came for batch in samples.batches)])
    ever = [np.arange(PUBLISHED), *(s + b.positions for s, b in zip(starts, samples.batches, strict=False))]
    owned = np.full(starts[-1], "-", names.dtype)
    owned[np.concatenate(ever)] = names[dealt.assignment]
    return owned


def emptied(batch: Arrived) -> Arrived:
    """The batch after it was withdrawn."""
    return Arrived(batch.came, batch.positions[:0], batch.labels[:0])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_without_a_pool_it_is_what_it_was(scheme: str, tmp_path: Path) -> None:
    params = request(scheme, tmp_path, validation=30)
    dealt = deal(grown([]), params)
    np.testing.assert_array_equal(dealt.assignment, assign(LABELS, params))
    np.testing.assert_array_equal(dealt.validation, sample(PUBLISHED, params))
    assert dealt.clients == 7


@given(
    scheme=st.sampled_from(SCHEMES),
    quantity=st.sampled_from(["even", "linear", "sizes"]),
    sizes=st.lists(st.integers(1, 80), min_size=1, max_size=4),
    validation=st.sampled_from([0, 40]),
    seed=st.integers(0, 1000),
    withdrawn=st.integers(0, 3),
)
@settings(max_examples=60, phases=NO_SHRINKING)
def test_no_batch_and_no_withdrawal_moves_a_sample_of_an_old_client(
    scheme: str,
    quantity: str,
    sizes: list[int],
    validation: int,
    seed: int,
    withdrawn: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    if scheme in ("dirichlet", "by_column", "pathological"):
        quantity = "even"
    given_sizes = np.full(7, (PUBLISHED - 20 - validation) // 7)
    given_sizes[0] += PUBLISHED - 20 - validation - given_sizes.sum()
    params = request(
        scheme,
        tmp_path_factory.getbasetemp(),
        quantity=quantity,
        validation=validation,
        seed=seed,
        sizes={"values": given_sizes.tolist() if quantity == "sizes" else []},
    )
    batches = [arrived(size, seed + number) for number, size in enumerate(sizes)]
    steps = [owners(grown(batches[:count]), params) for count in range(len(batches) + 1)]
    for before, after in pairwise(steps):
        trained = before != "-"
        np.testing.assert_array_equal(after[: len(before)][trained], before[trained])
    if scheme != "by_column":  # whose table may name no client for a validation sample
        assert (steps[-1] == "-").sum() == validation + 20
    # New samples are never left out, whatever 'leave_out' is.
    drawn = deal(grown(batches), params).validation
    assert len(drawn) == validation
    assert (np.delete(steps[-1], drawn)[PUBLISHED - (drawn < PUBLISHED).sum() :] != "-").all()

    gone = min(withdrawn, len(batches) - 1)
    less = [emptied(batch) if number == gone else without(batch, "eve") for number, batch in enumerate(batches)]
    left = owners(grown(less, ["eve"]), params)
    np.testing.assert_array_equal(left[left != "-"], steps[-1][left != "-"])


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
    withdrawn=st.integers(0, 3),
)
@settings(max_examples=30, phases=NO_SHRINKING)
def test_a_trained_sample_never_becomes_a_validation_sample(sizes: list[int], seed: int, withdrawn: int) -> None:
    params = partition(scheme="contiguous", clients=7, validation=50, seed=seed)
    batches = [arrived(size, seed + number) for number, size in enumerate(sizes)]
    gone = min(withdrawn, len(batches) - 1)
    less = [emptied(batch) if number == gone else batch for number, batch in enumerate(batches)]
    steps = [grown(batches[:count]) for count in range(len(batches) + 1)]
    steps += [grown(less), grown([*less, arrived(30, seed + 9)])]
    ever = PUBLISHED + sum(sizes) + 30
    trained, chosen = np.zeros(ever, bool), np.zeros(ever, bool)
    for step in steps:
        dealt = deal(step, params)
        starts = PUBLISHED + np.cumsum([0, *(batch.came for batch in step.batches)])
        numbers = np.concatenate(
            [np.arange(PUBLISHED), *(s + b.positions for s, b in zip(starts, step.batches, strict=False))]
        )
        trained[numbers[dealt.assignment != LEFT_OUT]] = True
        chosen[numbers[dealt.validation]] = True
        assert not trained[numbers[dealt.validation]].any()
    assert chosen.sum() >= 50


def test_contiguous_appends_runs_in_the_order_of_the_samples() -> None:
    params = partition(scheme="contiguous", clients=7)
    published, batches = assign(LABELS, params), [arrived(10, 1), arrived(11, 2)]
    dealt = deal(grown(batches), params).assignment
    np.testing.assert_array_equal(dealt[:PUBLISHED], published)
    assert np.bincount(published).tolist() == [43, 43, 43, 43, 43, 43, 42]
    # The smallest client is the first to get one, and the next batch begins where this one ends.
    assert dealt[PUBLISHED : PUBLISHED + 10].tolist() == [0, 0, 1, 1, 2, 3, 4, 5, 6, 6]
    assert np.bincount(dealt).tolist() == [46, 46, 46, 46, 46, 46, 45]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30).filter(any), st.integers(0, 400), st.integers(0, 400))
def test_sizes_grow_in_proportion_and_never_shrink(sizes: list[int], count: int, more: int) -> None:
    before = np.array(sizes)
    first, second = additional_sizes(before, count), additional_sizes(before, count + more)
    assert first.sum() == count and second.sum() == count + more and (second >= first).all() and (first >= 0).all()
    if before.max() - before.min() <= 1:
        assert np.ptp(before + first) <= 1
    else:
        assert (first[before == 0] == 0).all()
        # Webster's method gives a client its share but for less than one sample, unless shares are far apart.
        share = before / before.sum() * (before.sum() + count)
        assert abs(before + first - share).max() < 1.5


def test_given_sizes_are_of_the_published_samples_and_grow_in_proportion() -> None:
    sizes = {"values": [50, 100, 150]}
    params = partition(scheme="contiguous", quantity="sizes", sizes=sizes, clients=3)
    dealt = deal(grown([arrived(60, 1)]), params).assignment
    assert np.bincount(dealt).tolist() == [60, 120, 180]


@pytest.mark.parametrize("scheme", ["shards", "dirichlet", "pathological"])
def test_label_skew_stays(scheme: str) -> None:
    """A client gets new samples of the labels that it has, in proportion."""
    params = partition(scheme=scheme, clients=5, seed=3, pathological={"classes_per_client": 4})
    samples = grown([arrived(4000, 1)])
    clients = deal(samples, params).assignment
    before = np.zeros((5, 10))
    np.add.at(before, (clients[:PUBLISHED], LABELS), 1)
    after = np.zeros((5, 10))
    np.add.at(after, (clients[PUBLISHED:], samples.labels[PUBLISHED:]), 1)
    assert ((after > 0) <= (before > 0)).all()
    assert abs(after / after.sum(axis=0) - before / before.sum(axis=0)).max() < 0.1


def test_by_column_a_known_name_joins_and_a_new_name_is_a_new_client(tmp_path: Path) -> None:
    params = request("by_column", tmp_path)
    clients = np.array(["zoe", "ann", "zed", "zoe", "cy"])
    batch = Arrived(5, np.arange(5), np.zeros(5, np.uint8), clients)
    dealt = deal(grown([batch]), params)
    assert dealt.names is not None and dealt.names["name"].tolist() == [
        *("ann", "bob", "cy", "dan", "fay", "gus", "hal"),
        *("zoe", "zed"),
    ]
    assert dealt.assignment[PUBLISHED:].tolist() == [7, 0, 8, 7, 2] and dealt.clients == 9
    np.testing.assert_array_equal(dealt.assignment[:PUBLISHED], assign(LABELS, params))
    with pytest.raises(PipelineError, match=r"is by_column, whose clients have names, but a batch of the pool"):
        deal(grown([Arrived(5, np.arange(5), np.zeros(5, np.uint8))]), params)


def test_by_column_a_new_client_of_no_site_is_refused(tmp_path: Path) -> None:
    params = request("by_column", tmp_path).model_copy(update={"sites": [3, 4]})
    known = Arrived(2, np.arange(2), np.zeros(2, np.uint8), np.array(["ann", "hal"]))
    assert deal(grown([known]), params).clients == 7
    new = Arrived(3, np.arange(3), np.zeros(3, np.uint8), np.array(["zoe", "ann", "zed"]))
    with pytest.raises(PipelineError, match=r"'partition.sites' has 7 clients, and .* 2 new ones \(zoe, zed\), which"):
        deal(grown([new]), params)


def test_by_column_a_withdrawn_client_keeps_its_number_and_no_sample(tmp_path: Path) -> None:
    params = request("by_column", tmp_path)
    before, after = deal(grown([]), params), deal(grown([], ["bob", "nobody"]), params)
    assert (before.assignment == 1).sum() > 0
    np.testing.assert_array_equal(after.assignment, np.where(before.assignment == 1, LEFT_OUT, before.assignment))
    assert after.clients == 7 and published_clients(LABELS, params).count("bob") == (before.assignment == 1).sum()
