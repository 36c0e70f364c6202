"""Outputs take their places together or not at all, and what is in their way is said before the work begins."""

import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from fedpipe.errors import PipelineError
from fedpipe.outputs.staging import StagedOutputs
from tests import ROOT

TABLE, FOLDER, PICTURE = Path("metrics/table.csv"), Path("data/shards"), Path("plots/picture.png")
OUTPUTS = dict.fromkeys((TABLE, FOLDER, PICTURE), 0)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(outputs: StagedOutputs, text: str) -> None:
    with outputs.writing(TABLE) as path:
        path.write_text(text)
    with outputs.writing(FOLDER) as path:
        path.mkdir()
        (path / text).write_text(text)
    with outputs.writing(PICTURE) as path:
        path.write_text(text)


def make(text: str) -> None:
    with StagedOutputs("stage", OUTPUTS) as outputs:
        write(outputs, text)
        outputs.place()


def contents() -> dict[str, str]:
    return {str(path): path.read_text() for path in sorted(Path().rglob("*")) if path.is_file()}


def whole(text: str) -> dict[str, str]:
    return {f"data/shards/{text}": text, "metrics/table.csv": text, "plots/picture.png": text}


def test_all_outputs_replace_the_old_ones() -> None:
    make("old")
    make("new")
    assert contents() == whole("new")


@pytest.mark.parametrize("error", [PipelineError, KeyboardInterrupt, OSError])
def test_a_stage_that_fails_leaves_the_old_ones(error: type[BaseException]) -> None:
    make("old")
    with pytest.raises(error), StagedOutputs("stage", OUTPUTS) as outputs:
        write(outputs, "new")
        raise error
    assert contents() == whole("old")


def test_an_output_that_cannot_be_moved_leaves_all_old_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    make("old")
    replace = Path.replace

    def refuse(path: Path, target: Path) -> Path:
        if target == PICTURE and path.read_text() == "new":
            raise OSError(30, "Read-only file system", str(target))
        return replace(path, target)

    with StagedOutputs("stage", OUTPUTS) as outputs:
        write(outputs, "new")
        monkeypatch.setattr(Path, "replace", refuse)
        with pytest.raises(PipelineError, match=r"^plots/picture.png cannot be written: Read-only file system$"):
            outputs.place()
    assert contents() == whole("old")


@pytest.mark.parametrize("moves", range(1, 7))
def test_a_stage_that_is_killed_between_two_moves_leaves_all_old_ones_to_the_next(moves: int) -> None:
    make("old")
    code = f"""
        import os
        from pathlib import Path
        from fedpipe.outputs.staging import StagedOutputs
        from tests.fedpipe.outputs.test_staging import OUTPUTS, write
        replace, left = Path.replace, [{moves}]
        def count(path, target):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), 9)
            return replace(path, target)
        with StagedOutputs("stage", OUTPUTS) as outputs:
            write(outputs, "new")
            Path.replace = count
            outputs.place()
            os.kill(os.getpid(), 9)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    with StagedOutputs("stage", OUTPUTS):
        pass
    assert contents() == whole("old" if moves < 6 else "new")


def test_a_folder_that_cannot_be_written_is_said_at_the_beginning() -> None:
    Path("plots").write_text("a file in the folder's place")
    with (
        pytest.raises(PipelineError, match=r"^plots/picture.png cannot be written: "),
        StagedOutputs("stage", OUTPUTS),
    ):
        pytest.fail("the work began")
    assert contents() == {"plots": "a file in the folder's place"}


def test_too_little_disk_is_said_at_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on the size of files is refused as a full disk is: when the bytes are asked for."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with (
            pytest.raises(PipelineError, match=r"^data/shards cannot be written: File too large"),
            StagedOutputs("stage", OUTPUTS | {FOLDER: 2_000_000}),
        ):
            pytest.fail("the work began")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert contents() == {}


def test_reserved_disk_is_given_back_to_the_output() -> None:
    with StagedOutputs("stage", OUTPUTS | {TABLE: 1_000_000}) as outputs:
        assert sum(path.stat().st_blocks * 512 for path in Path("metrics").rglob("*.reserved")) >= 1_000_000
        with outputs.writing(TABLE) as path:
            assert not list(Path("metrics").rglob("*.reserved"))
            path.write_text("x")


def test_the_file_that_fills_the_disk_is_named() -> None:
    """Python's own error names none."""
    with (
        pytest.raises(PipelineError, match=r"^metrics/table.csv cannot be written: No space left on device$"),
        StagedOutputs("stage", OUTPUTS) as outputs,
        outputs.writing(TABLE) as path,
    ):
        path.symlink_to("/dev/full")
        path.write_text("x")


def test_an_input_that_cannot_be_read_keeps_its_name() -> None:
    with (
        pytest.raises(FileNotFoundError, match=r"input\.csv"),
        StagedOutputs("stage", OUTPUTS) as outputs,
        outputs.writing(TABLE),
    ):
        Path("input.csv").read_text()
