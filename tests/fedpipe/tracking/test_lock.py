"""The lock of a model registry, which all users of a machine share."""

import os
import stat
from pathlib import Path

import pytest

from fedpipe.tracking import lock


def test_every_user_can_open_it_whatever_the_umask_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = os.umask(0o077)
    try:
        with lock.registry_lock("sqlite:////srv/mlflow.db"):
            pass
    finally:
        os.umask(before)
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
