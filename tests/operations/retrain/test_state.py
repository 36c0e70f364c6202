"""How far a retraining has come, and whether it has what it needs."""

from pathlib import Path

import pytest

from fedpipe.datasets.pool import Entry
from fedpipe.errors import PipelineError
from operations.retrain import state

ENTRIES = [Entry(version=1, dataset="mnist", batch=name, samples=3, sha256="ef" * 32) for name in ("week-1", "week-2")]


def test_batches_that_are_nowhere_are_named_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data/pool").mkdir(parents=True)
    Path("data/pool/week-1.safetensors").touch()
    with pytest.raises(PipelineError, match=r"nor in a DVC remote: week-2; leave the same batches in data/incoming/"):
        state.require_batches(ENTRIES)
    Path("data/pool/week-2.safetensors").touch()
    state.require_batches(ENTRIES)
