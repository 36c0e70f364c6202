"""A project with real MNIST, an empty pool and real DVC."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import layout
from fedpipe.datasets.pool import Pool
from tests import RECIPE, ROOT
from tests.registry_workspace import small_data, workspace  # noqa: F401

GIT = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com"]


@pytest.fixture
def taking_in(tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's folder, the current one; it has the recipe's params, and no model registry."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(RECIPE / "params.yaml", ".")
    shutil.copytree(ROOT / "data/pool", "data/pool", ignore=shutil.ignore_patterns("*.dvc", "*.safetensors", "*.csv"))
    Path("data/raw").symlink_to(raw)
    Pool(layout.POOL).write_ledger([])
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, check=True)
    return tmp_path
