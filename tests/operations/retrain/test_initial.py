"""Whose weights training starts from: chosen once for a data set and its pool, and never another data set's."""

import shutil
from pathlib import Path

import pytest

from fedpipe import params
from fedpipe.datasets import pool
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import PipelineError
from fedpipe.runtime.initial import Pointer
from layout import INITIAL_POINTER
from operations.retrain import initial
from tests import ROOT


def test_another_data_sets_champion_is_not_taken_for_this_ones(
    raw: Path, empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty_database, tmp_path)
    settings = params.load(params.Train, ROOT / "params.yaml").model_copy(update={"init": "champion"})
    mnist = RawDataset.read(raw)
    INITIAL_POINTER.parent.mkdir()
    chosen = Pointer(sha256="ab" * 32, model="fedpipe-mnist", version=3, pool=pool.digest([]))
    INITIAL_POINTER.write_text(chosen.model_dump_json())

    assert initial.choose(settings, mnist, []) is None
    with pytest.raises(PipelineError, match="the model registry has no champion for fashion_mnist"):
        initial.choose(settings, mnist.model_copy(update={"name": "fashion_mnist"}), [])
