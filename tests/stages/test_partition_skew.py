"""The stage with skew and with test samples of the clients' own: what the shards then hold, and what the tables say."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fedpipe.datasets.raw import RawDataset
from fedpipe.datasets.shards import Manifest, read_held_out, read_shard, verify_shards, write_shards
from fedpipe.errors import PipelineError
from tests.stages.test_partition import contents, folder_with, run

SMALL = (
    ("scheme: contiguous", "scheme: dirichlet"),
    ("clients: 600", "clients: 20"),
    ("leave_out: 0", "leave_out: 58000"),
)
TESTED = ("client_test: none", "client_test: same_distribution")
SKEWED = (
    ("rotation: 0.0", "rotation: 45"),
    ("contrast: 0.0", "contrast: 0.4"),
    ("background: 0.0", "background: 0.3"),
    ("noise: 0.0", "noise: 0.2"),
    ("share: 0.0", "share: 0.25"),
)

Shards = list[tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="module")
def plain(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with 2,000 images over 20 clients, without any of what is tested here."""
    return partitioned(raw, tmp_path_factory, *SMALL)


@pytest.fixture(scope="module")
def tested(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with test shards of the same distribution."""
    return partitioned(raw, tmp_path_factory, *SMALL, TESTED)


def partitioned(raw: Path, factory: pytest.TempPathFactory, *edits: tuple[str, str]) -> Path:
    folder = folder_with(raw, factory.mktemp("project"))
    done = run(folder, *edits)
    assert done.returncode == 0, done.stderr
    return folder


def read_shards(folder: Path) -> Shards:
    manifest = Manifest.read(folder)
    verify_shards(folder, manifest)
    return [read_shard(folder, client) for client in range(manifest.clients)]


def below(folder: Path, prefix: str) -> dict[str, bytes]:
    return {name: content for name, content in contents(folder).items() if name.startswith(prefix)}


def test_without_skew_the_shards_are_the_images_as_they_are(plain: Path, training_set: tuple, tmp_path: Path) -> None:
    clients = pd.read_csv(plain / "data/clients/assignment.csv")["client"]
    write_shards(tmp_path, "mnist", *training_set, [np.flatnonzero(clients == client) for client in range(20)], 10)
    written = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    tables = {f"data/clients/{name}" for name in ("assignment.csv", "labels.csv")}
    actual = below(plain, "data/clients/")
    assert {name: actual[name] for name in actual.keys() - tables} == {
        f"data/clients/{name}": content for name, content in written.items()
    }


@pytest.mark.slow
def test_figures_of_two_partitions(plain: Path, raw: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What `dvc metrics diff` compares: label skew shows in every measure."""
    uniform = partitioned(raw, tmp_path_factory, ("scheme: contiguous", "scheme: iid"), *SMALL[1:])
    iid, skewed = (json.loads((folder / "metrics/partition.json").read_text()) for folder in (uniform, plain))
    assert iid["samples"] == skewed["samples"] == 2_000 and iid["sizes"]["gini"] == 0 < skewed["sizes"]["gini"]
    assert iid["entropy"]["mean"] > skewed["entropy"]["mean"]
    assert iid["total_variation"]["max"] < skewed["total_variation"]["mean"]
    assert iid["earth_movers_distance"]["mean"] < skewed["earth_movers_distance"]["mean"]
    table = pd.read_csv(plain / "plots/partition.csv")
    assert skewed["entropy"]["mean"] == pytest.approx(table["entropy"].mean(), abs=1e-6)


def test_skew_changes_images_and_labels_and_nothing_else(
    plain: Path, tested: Path, raw: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    project = partitioned(raw, tmp_path_factory, *SMALL, TESTED, *SKEWED)
    for name in ("clients/assignment.csv", "clients/labels.csv", "client_tests/assignment.csv"):
        assert (project / "data" / name).read_bytes() == (tested / "data" / name).read_bytes()
    skew = pd.read_csv(project / "data/clients/skew.csv", keep_default_na=False)
    assert list(skew) == ["client", "rotation", "contrast", "background", "noise", "permutation"] and len(skew) == 20
    assert skew["rotation"].between(-45, 45).all() and skew["rotation"].nunique() == 20
    assert (skew["permutation"] != "").sum() == 5
    assert json.loads((project / "metrics/partition.json").read_text())["permuted_clients"] == 5
    for name in ("data/clients", "data/client_tests"):
        for row, mine, true in zip(
            skew.itertuples(), read_shards(project / name), read_shards(tested / name), strict=True
        ):
            assert mine[0].shape == true[0].shape and mine[0].dtype == np.uint8 and (mine[0] != true[0]).any()
            permutation = np.array([int(label) for label in row.permutation.split()] or range(10))
            np.testing.assert_array_equal(mine[1], permutation[true[1]])
    first = contents(project)
    assert run(project, *SMALL, TESTED, *SKEWED).returncode == 0
    assert contents(project) == first


def test_same_distribution(plain: Path, tested: Path, raw: Path) -> None:
    # The same training shards, so DVC does not train again.
    assert below(tested, "data/clients/") == below(plain, "data/clients/")
    images, labels = RawDataset.read(raw).read_test(raw)
    table = pd.read_csv(tested / "data/client_tests/assignment.csv")
    counts = pd.read_csv(tested / "data/clients/labels.csv", index_col="client").to_numpy()
    for client, (test_images, test_labels) in enumerate(read_shards(tested / "data/client_tests")):
        mine = table[table["client"] == client]
        np.testing.assert_array_equal(test_images, images[mine["test_sample"]])
        np.testing.assert_array_equal(test_labels, labels[mine["test_sample"]])
        assert (mine["label"] == test_labels).all() and len(mine) == mine["test_sample"].nunique()
        size = counts[client].sum()
        assert len(mine) == max(1, size // 5)
        assert np.abs(np.bincount(test_labels, minlength=10) - counts[client] * len(mine) / size).max() < 1
    assert Manifest.read(tested / "data/client_tests").samples == len(table)
    # The train stage tells MLflow these figures, and it does not run again for other tests.
    assert below(tested, "metrics/") == below(plain, "metrics/")


def test_fraction(plain: Path, training_set: tuple, raw: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    project = partitioned(raw, tmp_path_factory, *SMALL, ("client_test: none", "client_test: fraction"))
    whole = pd.read_csv(plain / "data/clients/assignment.csv")["client"]
    trained = pd.read_csv(project / "data/clients/assignment.csv")["client"]
    held = pd.read_csv(project / "data/client_tests/assignment.csv")
    assert trained[held["training_sample"]].isna().all() and 350 < len(held) <= 400
    assert (whole[held["training_sample"]].to_numpy() == held["client"].to_numpy()).all()
    manifest = Manifest.read(project / "data/clients")
    assert (manifest.samples, manifest.held_out) == (2_000 - len(held), "fraction")
    assert pd.read_csv(project / "data/clients/labels.csv", index_col="client").to_numpy().sum() == 2_000 - len(held)
    for client, (images, _) in enumerate(read_shards(project / "data/client_tests")):
        mine = held["training_sample"][held["client"] == client]
        np.testing.assert_array_equal(images, training_set[0][mine])


def test_tests_are_those_of_the_clients_beside_them(plain: Path, tested: Path) -> None:
    clients = Manifest.read(tested / "data/clients")
    assert read_held_out(tested / "data/client_tests", clients).clients == 20
    assert read_held_out(plain / "data/client_tests", clients).clients == 0
    others = clients.model_copy(update={"digest": "0" * 64})
    with pytest.raises(PipelineError, match="client_tests holds samples of another partition"):
        read_held_out(tested / "data/client_tests", others)


@pytest.mark.slow
def test_empty_clients_are_not_shown(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of 600 clients some ten have samples, and none of those that would be shown if all had some."""
    project = partitioned(
        raw,
        tmp_path_factory,
        ("quantity: even", "quantity: dirichlet_quantity"),
        ("leave_out: 0", "leave_out: 59000"),
        (
            "  dirichlet_quantity: # sizes ~ Dir(alpha), the smaller alpha the more unequal\n"
            "    alpha: 0.5\n    min_size: 1",
            "  dirichlet_quantity:\n    alpha: 0.001\n    min_size: 0",
        ),
        ("rotation: 0.0", "rotation: 30"),
    )
    sizes = pd.read_csv(project / "plots/partition.csv")["samples"].to_numpy()
    assert sizes.sum() == 1_000 and sizes[np.linspace(0, 599, 10).astype(int)].sum() == 0


@pytest.mark.slow
def test_too_few_test_images_are_refused_before_anything_is_written(raw: Path, tmp_path: Path) -> None:
    project = folder_with(raw, tmp_path)
    done = run(project, TESTED, ("client_test_fraction: 0.2", "client_test_fraction: 200.0"))
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: params.yaml: 'partition.client_test_fraction' is 200.0: client ")
    assert contents(project) == {}
