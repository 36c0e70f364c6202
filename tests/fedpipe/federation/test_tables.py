"""Sites whose samples are rows of tables, or numbers: each fits its own to the description that all agree on."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fedpipe.config import Download
from fedpipe.datasets.raw import RawDataset
from fedpipe.datasets.shards import Manifest
from fedpipe.datasets.sources.table import write_table
from fedpipe.datasets.sources.user_dataset import write_user_dataset
from fedpipe.errors import PipelineError
from fedpipe.evaluation.held_out import by_site, section
from fedpipe.federation.answers import described
from fedpipe.federation.measuring import ask_sites
from fedpipe.federation.messages import Join, unpack_question
from fedpipe.networks.network import network
from fedpipe.networks.spec import ModelSpec
from fedpipe.runtime.worker import Worker
from tests.fedpipe.bits import TRAINING
from tests.fedpipe.federation.sites import NAMES, OPEN, SAMPLES, Sites
from tests.fedpipe.training import run, same_bits, train_settings

ROWS = sum(SAMPLES)


def table_of(rows: int, seed: int, labels: str) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    age, device = rng.normal(50, 20, rows).round(2), rng.choice(["new", "old"], rows)
    outcome = age + 30 * (device == "old") + rng.normal(0, 5, rows)
    label = np.where(outcome > 65, "ill", "well") if labels == "classes" else (outcome / 10).round(3)
    part = np.where(np.arange(rows) < 2, "test", "train")
    return pd.DataFrame({"age": age, "device": device, "outcome": label, "part": part})


def downloaded(table: pd.DataFrame, folder: Path, labels: str, **keys: Any) -> RawDataset:
    """The data set of a table, as the download stage writes it."""
    folder.mkdir(parents=True)
    table.to_csv(folder / "rows.csv", index=False)
    pin = {"source": str(folder / "rows.csv"), "sha256": hashlib.sha256((folder / "rows.csv").read_bytes()).hexdigest()}
    section = {"name": "small", "file": pin, "numbers": ["age"], "categories": ["device"], "label": "outcome"}
    sources = {"mnist": ["a"], "fashion_mnist": ["a"]}
    content = {"dataset": "table", "sources": sources, "idx": None, "connect_timeout": 1.0, "read_timeout": 1.0}
    content |= {"table": section | {"labels": labels, "split": "part"}} | keys
    params = Download.model_validate(content)
    assert params.table is not None
    (folder / "raw").mkdir()
    write_table(params.table, params, folder / "raw")
    return RawDataset.read(folder / "raw")


def pinned(folder: Path) -> dict[str, str]:
    file = folder / "raw/dataset.json"
    return {"source": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def rows_of_sites(folder: Path, labels: str) -> tuple[RawDataset, np.ndarray, np.ndarray]:
    """The coordinator's description, and rows of three sites as each of them fits its own; one has no old device."""
    constants = {"means": {"age": 50.0}, "deviations": {"age": 20.0}}
    agreed = downloaded(table_of(60, 1, labels), folder / "coordinator", labels, standardise=constants)
    parts = []
    for number in range(3):
        rows = table_of(ROWS, 2 + number, labels)
        rows = rows[rows["device"] == "new"] if number == 1 else rows
        rows = rows.assign(part=np.where(np.arange(len(rows)) < 2, "test", "train"))
        own = downloaded(rows, folder / f"own-{number}", labels, agreed=pinned(folder / "coordinator"))
        assert own.kind == agreed.kind
        parts.append(own.read_train(folder / f"own-{number}/raw"))
    samples, values = (np.concatenate(each)[:ROWS] for each in zip(*parts, strict=True))
    return agreed, samples, values


@pytest.fixture(scope="module", params=["classes", "numbers"])
def sites(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("tables")
    agreed, samples, values = rows_of_sites(folder, request.param)
    kind: Any = {"classes": agreed.classes, "sample_format": agreed.format}
    made = Sites(folder / "federation", samples, values, **kind, **OPEN)
    made.hold_out(samples, values, SAMPLES)
    made.start()
    yield made
    made.stop()


@pytest.mark.slow
@pytest.mark.parametrize("aggregator", ["mean", "secure_sum"])
def test_a_training_over_tables_has_the_bits_of_the_simulation(worker: Worker, sites: Sites, aggregator: str) -> None:
    kind = Manifest.read(sites.coordinator).kind
    chosen = {"aggregator": aggregator, "client_weighting": "uniform", "model": "mlp"}
    chosen |= {"mlp": {"hidden": [4]}, "loss": "cross_entropy" if kind.classes else "squared_error"}
    settings = train_settings(**TRAINING | chosen)
    model = network(ModelSpec.of(settings, *kind))
    of_model: Any = {"model": model, "first": model.first_weights(np.random.default_rng(5))}
    here = run(worker, settings, sites.pooled, [range(12)] * 2, **of_model)
    with sites.training(settings) as federation:
        remote = run(worker, settings, sites.coordinator, [range(12)] * 2, elsewhere=federation, **of_model)
    assert same_bits(remote.weights, here.weights) and repr(remote.rounds) == repr(here.rounds)
    joins = [unpack_question(question).message for _, question in sites.questions]
    assert any(isinstance(join, Join) and join.samples == kind.format for join in joins)


@pytest.mark.slow
def test_figures_on_held_out_rows_are_those_of_the_simulation(sites: Sites) -> None:
    manifest = Manifest.read(sites.coordinator)
    loss = "cross_entropy" if manifest.classes else "squared_error"
    settings = train_settings(model="mlp", mlp={"hidden": [4]}, loss=loss)
    model = network(ModelSpec.of(settings, *manifest.kind))
    weights = model.first_weights(np.random.default_rng(3))
    of_sites = ask_sites(sites, manifest, model, weights, 5)
    expected = section(by_site(model, weights, sites.folder / "pooled_tests", Manifest.read(sites.pooled), 5))
    figures = of_sites.figures()["test"]
    assert {key: figures[key] for key in expected} == expected and "clients" in figures
    together = ask_sites(sites, manifest, model, weights, 5, roster=sites.roster).figures()["test"]["held_out"]
    assert together["accuracy"] == pytest.approx(expected["held_out"]["accuracy"], abs=1e-6)


@pytest.mark.slow
def test_a_site_with_other_samples_is_named_without_a_value_of_its_own(sites: Sites) -> None:
    manifest = Manifest.read(sites.coordinator)
    shards, _ = described(sites, NAMES, samples=manifest.format)
    assert [each.differs for each in shards] == [[]] * 3
    columns = manifest.format.columns
    assert columns is not None
    age = columns.numbers[0].model_copy(update={"mean": 51.0})
    other = manifest.format.model_copy(update={"columns": columns.model_copy(update={"numbers": (age,)})})
    with pytest.raises(PipelineError, match=r"site-1 has other samples than the coordinator: another mean, dev.*'age'"):
        described(sites, NAMES, samples=other)


def test_an_agreed_description_takes_the_place_of_what_rows_say(tmp_path: Path) -> None:
    agreed, samples, _ = rows_of_sites(tmp_path, "classes")
    assert samples.shape == (ROWS, 3) and agreed.format.columns is not None
    raw = table_of(20, 9, "classes")
    own = downloaded(raw, tmp_path / "own", "classes", agreed=pinned(tmp_path / "coordinator"))
    train, _ = own.read_train(tmp_path / "own/raw")
    np.testing.assert_allclose(train[:, 0], (raw["age"].to_numpy()[2:] - 50) / 20, rtol=1e-6)
    renamed = raw.rename(columns={"age": "years"})
    with pytest.raises(PipelineError, match="no column age"):
        downloaded(renamed, tmp_path / "renamed", "classes", agreed=pinned(tmp_path / "coordinator"))
    wrong = raw.assign(outcome=["unsure", *raw["outcome"][1:]]).assign(part=["train"] * 18 + ["test"] * 2)
    with pytest.raises(PipelineError, match="has the label 'unsure', which no training row has; the labels are ill, w"):
        downloaded(wrong, tmp_path / "wrong", "classes", agreed=pinned(tmp_path / "coordinator"))
    with pytest.raises(PipelineError, match=r"'download\.table\.labels' is numbers, and 'download\.agreed' has cl"):
        downloaded(table_of(20, 9, "numbers"), tmp_path / "n", "numbers", agreed=pinned(tmp_path / "coordinator"))
    description = tmp_path / "coordinator/raw/dataset.json"
    description.write_text(json.dumps(json.loads(description.read_text()) | {"name": "other"}))
    with pytest.raises(PipelineError, match="describes other, and this data set is small: sites give it the same name"):
        downloaded(raw, tmp_path / "named", "classes", agreed=pinned(tmp_path / "coordinator"))


@pytest.mark.parametrize(("labels", "tokens"), [("classes", True), ("numbers", False), ("classes", False)])
def test_arrays_are_fitted_to_an_agreed_description(tmp_path: Path, labels: str, tokens: bool) -> None:
    rng = np.random.default_rng(4)

    def arrays(rows: int, most: int) -> RawDataset:
        folder = tmp_path / str(most)
        folder.mkdir()
        x = rng.integers(0, most, (rows, 4), np.int32) if tokens else rng.normal(most, 3, (rows, 4)).astype(np.float32)
        y = rng.integers(0, 3 if most > 5 else 2, rows) if labels == "classes" else rng.normal(0, most, (rows, 2))
        np.savez(folder / "arrays.npz", x_train=x, y_train=y, x_test=x, y_test=y)
        digest = hashlib.sha256((folder / "arrays.npz").read_bytes()).hexdigest()
        kinds = {"samples": "int32" if tokens else "float32", "labels": labels}
        idx = {"name": "small", "npz": {"source": str(folder / "arrays.npz"), "sha256": digest}} | kinds
        content: dict[str, Any] = {"dataset": "idx", "sources": {"mnist": ["a"], "fashion_mnist": ["a"]}, "idx": idx}
        content |= {"connect_timeout": 1.0, "read_timeout": 1.0}
        if most == 9:
            content["standardise"] = None if tokens else "training"
        else:
            content["agreed"] = pinned(tmp_path / "9")
        params = Download.model_validate(content)
        assert params.idx is not None
        (folder / "raw").mkdir()
        write_user_dataset(params.idx, params, folder / "raw")
        return RawDataset.read(folder / "raw")

    agreed = arrays(30, 9)
    assert arrays(20, 5).kind == agreed.kind
    if tokens:
        with pytest.raises(PipelineError, match=r"small has tokens up to 1\d, and 'download\.agreed' describes int32"):
            arrays(40, 20)


def test_an_agreed_description_stands_alone(tmp_path: Path) -> None:
    agreed = {"source": "dataset.json", "sha256": "a" * 64}
    with pytest.raises(ValueError, match="'agreed' has means and deviations"):
        downloaded(table_of(9, 1, "classes"), tmp_path / "own", "classes", agreed=agreed, standardise="training")
    with pytest.raises(ValueError, match="'agreed' is for tables and for arrays that are no images"):
        downloaded(table_of(9, 1, "classes"), tmp_path / "images", "classes", agreed=agreed, dataset="mnist")
