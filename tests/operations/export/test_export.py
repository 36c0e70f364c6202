"""``make export``: files that their own runtimes load, with this project's predictions."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import layout
from fedpipe.contracts.model import MODELS
from fedpipe.errors import PipelineError
from fedpipe.networks.network import network
from fedpipe.networks.spec import ModelSpec
from fedpipe.networks.weights import save_weights
from fedpipe.samples.kind import Format
from operations.export import __main__ as export
from operations.export import difference, formats
from operations.export.card import CARD, ExportCard

HAS_ONNX = find_spec("tf2onnx") is not None and find_spec("onnxruntime") is not None
needs_onnx = pytest.mark.skipif(not HAS_ONNX, reason="tf2onnx is not installed: `make onnx-env` does that")
ALL = [pytest.param(name, marks=needs_onnx) if name == "onnx" else name for name in formats.FORMATS]
SLOW = {"keras": [pytest.mark.slow], "savedmodel": [pytest.mark.slow], "onnx": [pytest.mark.slow, needs_onnx]}
DAILY = [pytest.param(name, marks=SLOW.get(name, [])) for name in formats.FORMATS]

# Each loads an export by itself, in another process, without this project, and prints the probabilities.
LOADERS = {
    "keras": "import tensorflow as tf; p = tf.keras.models.load_model(path)(x).numpy()",
    "onnx": "import onnxruntime as o; p = o.InferenceSession(path).run(None, {'samples': x})[0]",
    "savedmodel": "import tensorflow as tf; m = tf.saved_model.load(path); p = m.predict(x)['probabilities'].numpy()",
    "tflite": "import tensorflow as tf; i = tf.lite.Interpreter(path); p = i.get_signature_runner()(samples=x)"
    "['probabilities']",
}


def saved(spec: ModelSpec, path: Path) -> Path:
    model = network(spec)
    save_weights(path, model, model.first_weights(np.random.default_rng(1)))
    return path


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    saved(ModelSpec("baseline_cnn", (28, 28, 1), 10), layout.WEIGHTS)
    return tmp_path


@pytest.mark.parametrize("name", DAILY)
def test_another_program_loads_it_and_predicts_the_same(name: str, workspace: Path, capsys) -> None:
    export.main([name])
    folder = workspace / layout.EXPORTS / name
    card = ExportCard.read(folder / CARD)
    assert "1,000 random samples" in card.compared and card.largest_difference < 1e-6 and card.other_labels == 0
    assert f"exports/{name}/{card.file} has baseline_cnn" in capsys.readouterr().err
    samples = difference._random(network(ModelSpec("baseline_cnn", (28, 28, 1), 10)).spec.kind)[:20]
    np.save(workspace / "x.npy", samples)
    script = f"import numpy as np; x = np.load('x.npy'); path = {str(folder / card.file)!r}; {LOADERS[name]}"
    script += "; np.save('p.npy', p); import sys; print('fedpipe' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-I", "-c", script], cwd=workspace, capture_output=True, text=True, check=True, timeout=300
    )
    assert run.stdout.endswith("False\n")
    from fedpipe.networks.weights import load_weights

    model, weights = load_weights(layout.WEIGHTS)
    np.testing.assert_allclose(np.load("p.npy"), model.predictor(weights)(samples), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("model", [name for name in MODELS.names if name not in ("keras_file", "baseline_cnn")])
def test_every_model_in_every_format(model: str, name: str, workspace: Path) -> None:
    spec = ModelSpec(model, (28, 28, 1), 10)
    if model == "bag_of_tokens":
        if name == "keras":
            return
        spec = ModelSpec(model, (12,), 4, format=Format(samples="int32", tokens=50))
    export.main([name, str(saved(spec, workspace / "weights.safetensors"))])
    card = json.loads((layout.EXPORTS / name / CARD).read_text())
    assert card["model"] == model and card["largest_difference"] < 1e-5


def test_predictions_that_differ_are_refused_and_nothing_is_written(workspace: Path, monkeypatch) -> None:
    wrong = formats.Format(
        "model", formats.FORMATS["savedmodel"].write, lambda path: lambda samples: np.ones((1000, 10))
    )
    monkeypatch.setitem(formats.FORMATS, "savedmodel", wrong)
    with pytest.raises(PipelineError, match=r"differ by up to 0\.\d+, more than 0\.0001: nothing is written"):
        export.main(["savedmodel"])
    assert not list(layout.EXPORTS.iterdir())


def test_what_is_missing_is_said(workspace: Path) -> None:
    with pytest.raises(PipelineError, match=r"other.safetensors is missing"):
        export.main(["keras", "other.safetensors"])
    for name in ("coreml", ""):
        message = rf"there is no FORMAT '{name}': choose one of keras, onnx, savedmodel, tflite"
        with pytest.raises(PipelineError, match=message):
            export.main([name])


@pytest.mark.skipif(HAS_ONNX, reason="tf2onnx is installed")
def test_onnx_without_its_packages_names_the_command(workspace: Path) -> None:
    with pytest.raises(PipelineError, match="the format onnx needs tf2onnx and onnxruntime: run `make onnx-env`"):
        export.main(["onnx"])
