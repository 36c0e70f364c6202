"""The library installed with `pip install -e`, as docs/library.md says it, used outside of the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from fedpipe.datasets.raw import RawDataset
from tests import ROOT
from tests.test_library import SCRIPT

pytestmark = pytest.mark.slow

OTHERS = """
import importlib.util, sys
names = ["layout", "operations", "stages", "tests", "benchmarks"]
print([name for name in names if name in sys.modules or importlib.util.find_spec(name)])
"""


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the packages of this one, and the library from a copy of the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    checkout, environment = folder / "checkout", folder / "environment"
    checkout.mkdir()
    for name in ("fedpipe", "operations", "stages"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "layout.py"):
        shutil.copy(ROOT / name, checkout)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin/python"
    packages = environment / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    (packages / "these.pth").write_text(sysconfig.get_path("purelib"))
    install = ["install", "--quiet", "--no-deps", "--no-build-isolation", "-e", str(checkout)]
    subprocess.run([sys.executable, "-I", "-m", "pip", "--python", str(python), *install], check=True, timeout=300)
    return python


def run(python: Path, script: str, folder: Path) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(python), "-c", script]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def test_it_is_the_library_and_nothing_else_of_the_checkout(interpreter: Path, tmp_path: Path) -> None:
    script = "import fedpipe\nfedpipe.train_settings(rounds=1)\nimport fedpipe.simulation\nprint(fedpipe.__file__)"
    where, others = run(interpreter, script + OTHERS, tmp_path)
    assert where == str(interpreter.parents[2] / "checkout/fedpipe/__init__.py") and others == "[]"


def test_the_script_of_the_document_runs_there(interpreter: Path, raw: Path, tmp_path: Path) -> None:
    dataset = RawDataset.read(raw)
    arrays = [part[..., 0] if part.ndim == 4 else part for part in (*dataset.read_train(raw), *dataset.read_test(raw))]
    np.savez(tmp_path / "mnist.npz", **dict(zip(("x_train", "y_train", "x_test", "y_test"), arrays, strict=True)))
    *_, prediction, others = run(interpreter, SCRIPT + OTHERS, tmp_path)
    assert all(digit in map(str, range(10)) for digit in prediction.split()) and others == "[]"
