"""Which batches wait for a person: real digits as they are, inverted, mislabelled, and a little different."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import layout
from fedpipe import params
from fedpipe.datasets.batch_file import Batch
from fedpipe.datasets.pool import Pool
from fedpipe.datasets.raw import RawDataset
from fedpipe.tracking import champions
from operations.drift.champion import Champion
from operations.drift.measures import STATISTICS, THRESHOLDS
from operations.incoming.hold import Limits
from operations.incoming.ingest import Rules, ingest
from tests import RECIPE
from tests.batches import add_npz
from tests.registry_workspace import Workspace

Samples = tuple[np.ndarray, np.ndarray]
HOLD = params.load(params.Incoming, RECIPE / "params.yaml").hold
NOTHING = HOLD.model_copy(
    update={
        "drift": HOLD.drift.model_copy(update=dict.fromkeys(type(HOLD.drift).model_fields)),
        "accuracy_loss": None,
        "rare_labels": None,
    }
)
DRIFT_ALONE = NOTHING.model_copy(update={"drift": HOLD.drift})


def test_the_limits_of_drift_are_the_measures_by_name() -> None:
    assert {*type(HOLD.drift).model_fields} == {*THRESHOLDS} - {"accuracy"}
    assert {*STATISTICS} < {*type(HOLD.drift).model_fields}


@pytest.fixture
def limits(taking_in: Path, raw: Path) -> Limits:
    """The recipe's, where there is no champion yet."""
    return Limits(RawDataset.read(raw), HOLD)


def test_without_a_champion_drift_holds_what_looks_different(limits: Limits, raw: Path) -> None:
    images, labels = RawDataset.read(raw).read_test(raw)
    batches = {size: (images[-size:], labels[-size:]) for size in (3, 20, 500)}
    assert [limits.reasons(Batch(*batch)) for batch in batches.values()] == [[], [], []]
    for at in range(20):  # one image is far from a mean image, by chance
        assert limits.reasons(Batch(images[at : at + 1], labels[at : at + 1])) == []
    for ordinary in (
        Batch(images[labels == 1][:200], labels[labels == 1][:200]),
        Batch(np.maximum(images[:500], 20), labels[:500]),
        Batch((images[:500] * 0.7).astype(np.uint8), labels[:500]),
        Batch(np.roll(images[:500], 2, axis=2), labels[:500]),
    ):
        assert limits.reasons(ordinary) == []
    for size, (some, theirs) in batches.items():
        reasons = limits.reasons(Batch(255 - some, theirs))
        assert "its brightness is 1" in reasons[0] and "(incoming.hold.drift.brightness: 4.0)" in reasons[0], size
    assert not Path("mlflow.db").exists()  # asking MLflow takes seconds, and would make it


def test_with_a_champion_mislabelled_samples_wait(workspace: Workspace, raw: Path) -> None:
    accuracy = workspace.register("strong")
    version = layout.registry().challenger("mnist")
    assert version and accuracy > 0.75
    champions.promote(layout.registry(), "mnist", version.number, None)
    dataset = RawDataset.read(Path("data/raw"))
    limits = Limits(dataset, HOLD)
    images, labels = (part[20_000:20_500] for part in RawDataset.read(raw).read_train(raw))
    few = (images[:20], labels[:20])
    for ordinary in (Batch(images, labels), Batch(*few), Batch(images[labels == 8], labels[labels == 8])):
        assert limits.reasons(ordinary) == []
    for size in (20, 500):
        (reason,) = limits.reasons(Batch(images[:size], (labels[:size] + 3) % 10))
        assert (
            reason.startswith("the accuracy of fedpipe-mnist version 1 on it is 0.") and "accuracy_loss: 0.3" in reason
        )
    half = np.where(np.arange(500) % 2, (labels + 3) % 10, labels).astype(np.uint8)
    assert len(limits.reasons(Batch(images, half))) == 1
    assert len(limits.reasons(Batch(255 - images, labels))) > 1
    # null switches each off, and an absolute limit is one of its own.
    assert Limits(dataset, NOTHING).reasons(Batch(255 - images, (labels + 3) % 10)) == []
    least = NOTHING.model_copy(update={"accuracy": 0.5})
    (reason,) = Limits(dataset, least).reasons(Batch(images, (labels + 3) % 10))
    assert "(incoming.hold.accuracy: 0.5)" in reason and Limits(dataset, least).reasons(Batch(images, labels)) == []


def test_labels_that_are_new_wait(taking_in: Path, raw: Path, training_set: Samples) -> None:
    """The data before has no sevens; the pool's batches belong to it."""
    from tests.registry_workspace import write_raw

    images, labels = (part[:2000] for part in training_set)
    few = np.flatnonzero(labels != 7)
    Path("data/raw").unlink()
    dataset = write_raw(Path("data/raw"), (images[few], labels[few]), (images[few], labels[few]))
    seven = np.flatnonzero(labels == 7)
    new = Batch(images[np.r_[seven[:60], few[:140]]], labels[np.r_[seven[:60], few[:140]]])
    limits = Limits(dataset, NOTHING.model_copy(update={"rare_labels": 0.2}))
    assert limits.reasons(new) == [
        "30% of its samples have labels that are new or rare, 7 (incoming.hold.rare_labels: 0.2)"
    ]
    assert limits.reasons(Batch(images[:200], labels[:200])) == []
    add_npz(Path("data/incoming"), "sevens", images[seven], labels[seven])
    ingest(dataset)
    assert Pool(layout.POOL).read_ledger()[0].samples == len(seven)
    assert Limits(dataset, NOTHING.model_copy(update={"rare_labels": 0.2})).reasons(new) == []


@given(st.lists(st.integers(0, 2), min_size=1, max_size=40), st.integers(0, 5))
def test_expected_is_the_accuracy_on_test_images_of_the_same_labels(labels: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    test_labels = rng.integers(0, 2, 30)  # label 2 has no test image
    answers = rng.integers(0, 2, 30)
    champion = Champion.measured("a", lambda _: answers, (np.zeros((30, 1, 1, 1), np.uint8), test_labels), 3)
    hits = answers == test_labels
    of_label = [
        hits[test_labels == label].mean() if (test_labels == label).any() else hits.mean() for label in range(3)
    ]
    assert champion.expected(np.array(labels)) == pytest.approx(np.mean([of_label[label] for label in labels]))


def test_an_error_of_measuring_rejects_no_batch(taking_in: Path, raw: Path, training_set: Samples) -> None:
    """MLflow may be down: that is no reason to throw a client's samples away."""
    from fedpipe.errors import PipelineError

    def unreachable(_: Batch) -> list[str]:
        raise PipelineError("MLflow cannot be reached")

    add_npz(Path("data/incoming"), "a", training_set[0][:20], training_set[1][:20])
    with pytest.raises(PipelineError, match="MLflow cannot be reached"):
        ingest(RawDataset.read(raw), Rules(hold=unreachable))
    assert (Path("data/incoming") / "a.npz").exists() and not Path("data/rejected").exists()
    shutil.rmtree("data/incoming")
