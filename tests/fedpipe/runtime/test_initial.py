"""The weights to start from: the champion's if they are there, whole and fit, else a sentence before anything runs."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

import layout
from fedpipe import params
from fedpipe.datasets.shards import Manifest
from fedpipe.errors import PipelineError
from fedpipe.networks.network import network
from fedpipe.networks.spec import ModelSpec
from fedpipe.networks.weights import save_weights
from fedpipe.runtime import initial
from fedpipe.seeds import Purpose, generator
from tests import ROOT

MODEL = network(ModelSpec("baseline_cnn", (28, 28, 1), 10))
MANIFEST = Manifest(dataset="mnist", image_shape=(28, 28, 1), classes=10, clients=1, samples=1, digest="")


@pytest.fixture
def champion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: params.Train) -> params.Train:
    """Weights to start from, and params that ask for them."""
    monkeypatch.chdir(tmp_path)
    save_weights(layout.INITIAL, MODEL, MODEL.first_weights(np.random.default_rng(9)))
    point(hashlib.sha256(layout.INITIAL.read_bytes()).hexdigest())
    return settings.model_copy(update={"init": "champion"})


def checked(settings: params.Train, manifest: Manifest) -> str:
    wanted = ModelSpec.of(settings, manifest.image_shape, manifest.classes)
    return initial.require_fit(settings, manifest, wanted, weights=layout.INITIAL, pointer=layout.INITIAL_POINTER)


def point(sha256: str | None) -> None:
    content = {"sha256": sha256, "model": "fedpipe-mnist", "version": 3, "pool": None}
    layout.INITIAL_POINTER.write_text(json.dumps(content))


def test_training_starts_from_them(champion: params.Train) -> None:
    assert checked(champion, MANIFEST) == "fedpipe-mnist version 3"
    expected = MODEL.first_weights(np.random.default_rng(9))
    for actual, wanted in zip(initial.first_weights(MODEL, champion, layout.INITIAL), expected, strict=True):
        assert (actual == wanted).all()


def test_fresh_ones_are_drawn_from_the_seed(champion: params.Train, settings: params.Train) -> None:
    assert checked(settings, MANIFEST) == "fresh"
    expected = MODEL.first_weights(generator(settings.seed, Purpose.INITIAL_WEIGHTS))
    assert (initial.first_weights(MODEL, settings, layout.INITIAL)[0] == expected[0]).all()


def test_the_committed_pointer_names_none_or_weights_that_dvc_knows() -> None:
    committed = initial.Pointer.model_validate_json((ROOT / layout.INITIAL_POINTER).read_text())
    assert committed.sha256 is None or (ROOT / "models/initial.safetensors.dvc").is_file()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda: point(None), "'train.init' is champion, but models/initial.json names no weights yet: `make retrain`"),
        (
            lambda: point("ab" * 32),
            "models/initial.safetensors is not the file that models/initial.json names: restore",
        ),
        (layout.INITIAL.unlink, "models/initial.safetensors is missing, which models/initial.json names"),
        (layout.INITIAL_POINTER.unlink, "models/initial.json is missing: restore it with `git checkout"),
        (lambda: layout.INITIAL_POINTER.write_text("{}"), "models/initial.json does not say which weights"),
    ],
)
def test_what_is_wrong_is_said(champion: params.Train, spoil, reason: str) -> None:
    spoil()
    with pytest.raises(PipelineError) as caught:
        checked(champion, MANIFEST)
    assert reason in str(caught.value)


def test_held_out_samples_that_the_champion_may_know_are_refused(
    champion: params.Train, settings: params.Train
) -> None:
    held_out = MANIFEST.model_copy(update={"held_out": "fraction"})
    with pytest.raises(PipelineError, match=r"'train.init' is champion, but with 'partition.client_test' fraction"):
        checked(champion, held_out)
    assert checked(settings, held_out) == "fresh"


@pytest.mark.parametrize(
    ("settings_change", "manifest_change", "reason"),
    [
        ({}, {"dataset": "fashion_mnist"}, "names weights of fedpipe-mnist, and the data set is fashion_mnist"),
        (
            {"model": "mcmahan_2nn"},
            {},
            "the champion is baseline_cnn for 28x28x1 images of 10 classes, and this training",
        ),
        ({}, {"classes": 11}, "is of baseline_cnn for 28x28x1 images of 11 classes"),
        ({}, {"image_shape": (32, 32, 3)}, "is of baseline_cnn for 32x32x3 images of 10 classes"),
    ],
)
def test_another_model_is_refused(
    champion: params.Train, settings_change: dict, manifest_change: dict, reason: str
) -> None:
    with pytest.raises(PipelineError, match=r"'train\.init' is champion") as caught:
        checked(champion.model_copy(update=settings_change), MANIFEST.model_copy(update=manifest_change))
    assert reason in str(caught.value)


def test_weights_of_a_file_and_its_sum(settings: params.Train, tmp_path: Path) -> None:
    path = tmp_path / "start.safetensors"
    weights = [each + np.float32(1) for each in MODEL.first_weights(np.random.default_rng(1))]
    save_weights(path, MODEL, weights)
    sums = hashlib.sha256(path.read_bytes()).hexdigest()

    def start(**file: str) -> params.Train:
        content = settings.model_dump() | {"init": "file", "init_file": {"path": str(path), "sha256": sums} | file}
        return type(settings).model_validate(content)

    assert checked(start(), MANIFEST) == f"{path} (SHA-256 {sums[:12]})"
    for loaded, expected in zip(initial.first_weights(MODEL, start(), layout.INITIAL), weights, strict=True):
        assert loaded.tobytes() == expected.tobytes()
    with pytest.raises(PipelineError, match=rf"'train.init_file.sha256' is {'0' * 64}, and .* has {sums}"):
        checked(start(sha256="0" * 64), MANIFEST)
    with pytest.raises(PipelineError, match=r"'train.init_file.path' is nowhere: No such file"):
        checked(start(path="nowhere"), MANIFEST)
    for others, message in (
        ({"init": "file"}, "'train.init' is file: set 'train.init_file.path'"),
        ({"init_file": {"path": "x"}}, "'train.init_file' is not read with 'train.init' fresh"),
    ):
        with pytest.raises(ValueError, match=message):
            type(settings).model_validate(settings.model_dump() | others)
