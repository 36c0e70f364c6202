"""A process imports the packages of the lock, from its own environment, or says that it does not."""

import subprocess
import sys
from pathlib import Path

import pytest

from fedpipe import installed
from fedpipe.errors import PipelineError
from tests import ROOT

OWN = ROOT / "libraries.lock"


def test_this_environment_holds_what_libraries_lock_names() -> None:
    assert installed.differences(OWN) == []
    assert installed.shadowed() == []
    installed.require(OWN)


def test_other_versions_and_missing_packages_are_named(tmp_path: Path) -> None:
    lock = tmp_path / "libraries.lock"
    lock.write_text(
        "# a comment==1\nnumpy==9.9 \\\n    --hash=sha256:00\nfed_pipe.x[all]==1.0\nPillow==13.0.0\n", encoding="utf-8"
    )
    assert installed.differences(lock) == ["numpy 1.25.2 in place of 9.9", "no fed-pipe-x"]
    with pytest.raises(PipelineError, match=r"has numpy 1.25.2 in place of 9.9, no fed-pipe-x.*make env"):
        installed.require(lock)


@pytest.mark.parametrize("name", ["numpy/__init__.py", "numpy.py", "_cffi_backend.abi3.so"])
def test_a_module_elsewhere_that_hides_an_installed_one_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from fedpipe import installed; print(installed.shadowed())"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    module = name.split("/")[0].split(".")[0]
    assert done.stdout == f"{[f'{module} from {tmp_path}']}\n"


def test_a_folder_without_code_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docker").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert installed.shadowed() == []
