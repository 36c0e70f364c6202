"""The file of weights: equal ones for equal weights, whole with what it takes to use them, or refused by name."""

from pathlib import Path

import numpy as np
import pytest

from fedpipe.contracts.model import LOSSES, MODELS
from fedpipe.errors import PipelineError
from fedpipe.networks.network import network
from fedpipe.networks.spec import ModelSpec
from fedpipe.networks.weights import load_weights, read_spec, save_weights

MODEL = network(ModelSpec("baseline_cnn", (28, 28, 1), 10))
WEIGHTS = MODEL.first_weights(np.random.default_rng(0))


def test_round_trip(tmp_path: Path) -> None:
    save_weights(tmp_path / "a", MODEL, WEIGHTS)
    save_weights(tmp_path / "b", MODEL, WEIGHTS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    model, loaded = load_weights(tmp_path / "a")
    assert model.spec == MODEL.spec and all((a == b).all() for a, b in zip(loaded, WEIGHTS, strict=True))


def test_params_and_loss_come_back(tmp_path: Path) -> None:
    dropout, smoothing = MODELS.of("mcmahan_cnn").Params(dropout=0.5), LOSSES.of("hinge").Params(margin=2.0)
    spec = ModelSpec("mcmahan_cnn", (8, 8, 3), 7, dropout, "hinge", smoothing)
    model = network(spec)
    save_weights(tmp_path / "w", model, model.first_weights(np.random.default_rng(0)))
    assert read_spec(tmp_path / "w") == spec


@pytest.mark.parametrize("damage", [lambda c: c[:-1], lambda c: c[:5], lambda c: b"nonsense" + c, lambda _: b""])
def test_damaged_weights_file_is_named(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "weights.safetensors"
    save_weights(path, MODEL, WEIGHTS)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(PipelineError, match=r"weights.safetensors is not a file of weights"):
        load_weights(path)
    with pytest.raises(PipelineError, match="is missing: run the train stage first"):
        load_weights(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "change",
    [
        {"model": "unknown"},
        {"loss": "unknown"},
        {"params": {"dropout": 0.5}},
        {"image_shape": [28, 0]},
        {"classes": "ten"},
        {"model": ["baseline_cnn"]},
        {"params": None},
    ],
)
def test_what_no_model_can_be_made_of_is_refused(tmp_path: Path, change: dict) -> None:
    """As after a model's file was removed, or its params were renamed."""
    from safetensors.numpy import save

    description = MODEL.spec.to_json() | change
    import json

    path = tmp_path / "weights.safetensors"
    tensors = dict(zip(MODEL.shapes, WEIGHTS, strict=True))
    path.write_bytes(save(tensors, {"fedpipe": json.dumps(description)}))
    with pytest.raises(PipelineError, match=r"weights.safetensors is not a file of weights \("):
        load_weights(path)
