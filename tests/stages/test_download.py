"""The stage as it is run: real files, what it leaves in data/raw, and what a kill leaves."""

import hashlib
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest

from fedpipe.datasets.idx import read_idx
from fedpipe.datasets.raw import RawDataset
from fedpipe.datasets.sources.checksums import is_whole
from fedpipe.datasets.sources.published import MNIST
from fedpipe.errors import PipelineError
from stages.download import RAW, main
from tests.fedpipe.datasets.sources import conftest as sources

_loopback_without_proxy, mirror, project = sources._loopback_without_proxy, sources.mirror, sources.project
mnist_source, mnist_gz = sources.mnist_source, sources.mnist_gz

REPO = Path(__file__).parents[2]
NAMES = sorted(["dataset.json", *(file.name for file in MNIST.files)])


def start(project, stderr=subprocess.PIPE):
    return subprocess.Popen(
        [sys.executable, "-m", "stages.download"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def assert_exactly_the_data_set(folder=RAW):
    assert sorted(path.name for path in folder.iterdir()) == NAMES
    assert all(is_whole(folder / file.name, file) for file in MNIST.files)


def test_a_mirror_gives_the_official_files(mnist_gz, mirror, project):
    project([mirror(mnist_gz).url])
    main()
    assert_exactly_the_data_set()
    assert read_idx(RAW / "train-images-idx3-ubyte").shape == (60_000, 28, 28)
    assert read_idx(RAW / "t10k-labels-idx1-ubyte").shape == (10_000,)


def test_files_that_are_there_need_no_source(mnist_source, project, capsys, monkeypatch):
    project([str(mnist_source)])
    main()
    made = {path: path.stat().st_mtime_ns for path in RAW.iterdir()}
    project(["/nowhere"])
    monkeypatch.setenv("PATH", "")
    capsys.readouterr()
    main()
    assert capsys.readouterr().err == "download: all 4 MNIST files are in data/raw with the pinned SHA-256\n"
    assert {path: path.stat().st_mtime_ns for path in RAW.iterdir()} == made


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_only_what_is_damaged_is_fetched_again(mnist_source, mnist_gz, mirror, project, damage):
    project([str(mnist_source)])
    main()
    hurt = RAW / "t10k-images-idx3-ubyte"
    content = bytearray(hurt.read_bytes())
    if damage == "gone":
        hurt.unlink()
    elif damage == "cut":
        hurt.write_bytes(content[:-1])
    else:
        content[4321] ^= 1
        hurt.write_bytes(content)
    good = mirror(mnist_gz)
    project([good.url])
    main()
    assert_exactly_the_data_set()
    assert good.requested == ["t10k-images-idx3-ubyte.gz"]


def test_the_environment_goes_first(mnist_source, mnist_gz, mirror, project, monkeypatch):
    good = mirror(mnist_gz)
    project([good.url])
    monkeypatch.setenv("FEDPIPE_MNIST_SOURCE", f"file://{mnist_source}")
    main()
    assert_exactly_the_data_set()
    assert good.requested == []


def test_leftovers_of_a_killed_run_are_cleared_and_other_files_left_alone(mnist_source, project):
    project([str(mnist_source)])
    main()
    (RAW / "train-images-idx3-ubyte.partial").write_bytes(b"half")
    (RAW / "notes.txt").write_text("mine")
    main()
    assert sorted(path.name for path in RAW.iterdir()) == sorted([*NAMES, "notes.txt"])


def test_another_data_set_takes_the_place_of_the_one_that_was_there(mnist_source, project, tmp_path):
    project([str(mnist_source)])
    main()
    own = tiny_npz(tmp_path / "my.npz")
    project(["/nowhere"], "idx", own)
    main()
    assert sorted(path.name for path in RAW.iterdir()) == NAMES
    assert RawDataset.read(RAW).name == "mine" and RawDataset.read(RAW).image_shape == (4, 4, 1)
    assert (RAW / "train-images-idx3-ubyte").stat().st_size < 1000
    project([str(mnist_source)])
    main()
    assert_exactly_the_data_set()
    assert RawDataset.read(RAW).name == "mnist"


def test_a_switch_that_fails_half_way_leaves_the_old_data_set(mnist_source, project, tmp_path):
    """One right file of the new data set is there, the others are not: nothing of the old one may be touched."""
    project(["/nowhere"], "idx", tiny_npz(tmp_path / "my.npz"))
    main()
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in RAW.iterdir()}
    half = tmp_path / "half"
    half.mkdir()
    shutil.copy(mnist_source / "train-images-idx3-ubyte.gz", half)
    project([str(half)])
    with pytest.raises(PipelineError, match="no source gave train-labels-idx1-ubyte, t10k-images-idx3-ubyte, "):
        main()
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in RAW.iterdir()} == before
    assert not list(RAW.parent.glob("raw?*"))
    project([str(mnist_source)], "fashion_mnist")
    with pytest.raises(PipelineError, match=r"of Fashion-MNIST; .*FEDPIPE_FASHION_MNIST_SOURCE.*sources.fashion_mnist"):
        main()
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in RAW.iterdir()} == before


def test_a_switch_that_is_killed_while_files_are_moved_never_lies(mnist_source, project, tmp_path, monkeypatch):
    """The one moment that cannot be atomic: the description is gone first and comes last."""
    project([str(mnist_source)])
    main()
    project(["/nowhere"], "idx", tiny_npz(tmp_path / "my.npz"))
    replace, moved = Path.replace, []

    def replace_two(path, target):
        if len(moved) == 2:
            raise KeyboardInterrupt
        moved.extend([target] if target.parent == RAW else [])
        return replace(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", replace_two)
        with pytest.raises(KeyboardInterrupt):
            main()
    with pytest.raises(PipelineError, match=r"dataset\.json is missing: run the download stage first"):
        RawDataset.read(RAW)
    main()
    assert RawDataset.read(RAW).name == "mine" and len(RawDataset.read(RAW).read_train(RAW)[0]) == 6


def tiny_npz(path):
    """Section download.idx for a data set of six and three images, written to ``path``."""
    labels = np.arange(9, dtype=np.uint8) % 3
    images = np.arange(9 * 16, dtype=np.uint8).reshape(9, 4, 4)
    np.savez(path, x_train=images[:6], y_train=labels[:6], x_test=images[6:], y_test=labels[6:])
    return {"name": "mine", "npz": {"source": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}}


def test_all_sources_failing_is_one_sentence_a_source_and_exit_code_1(project):
    ended = start(project(["/nowhere", "/neither"]))
    _, output = ended.communicate(timeout=20)
    assert ended.returncode == 1
    message = output[output.index("error: ") :]
    assert message.splitlines()[1:] == ["  /nowhere: there is no such folder", "  /neither: there is no such folder"]
    assert "Traceback" not in output


def test_bad_address_is_refused_before_anything_is_done(project):
    project(["gopher://hole"])
    with pytest.raises(PipelineError, match="gopher://hole"):
        main()
    assert not RAW.exists()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_download_leaves_nothing_that_looks_whole(mnist_gz, mirror, project, how):
    def half(handler):
        body = mnist_gz["train-images-idx3-ubyte.gz"]
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: len(body) // 2])
        time.sleep(4)

    folder = project([mirror({**mnist_gz, "train-images-idx3-ubyte.gz": half}).url])
    running = start(folder)
    staged = folder / "data/raw.partial"
    partial = staged / "train-images-idx3-ubyte.partial"
    deadline = time.monotonic() + 20
    while not (partial.exists() and partial.stat().st_size > 1_000_000):
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.01)
    running.send_signal(how)
    _, output = running.communicate(timeout=20)
    assert running.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert "Traceback" not in output
    assert not RAW.exists() and staged.exists() == (how == signal.SIGKILL)

    project([mirror(mnist_gz).url])
    main()
    assert_exactly_the_data_set()
    assert not staged.exists()


def test_a_terminal_sees_a_bar_and_a_log_file_does_not(mnist_source, project):
    folder = project([str(mnist_source)])
    here, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 100))
    running = start(folder, terminal)
    os.close(terminal)
    shown = b""
    while True:
        try:
            block = os.read(here, 4096)
        except OSError:  # Linux says so when the last writer has closed the terminal.
            break
        shown += block
    os.close(here)
    assert running.wait(20) == 0
    assert b"train-images-idx3-ubyte:" in shown and b"%|" in shown

    (folder / RAW / "train-images-idx3-ubyte").unlink()
    _, output = start(folder).communicate(timeout=20)
    assert output.splitlines() == [
        f"download: trying {mnist_source}",
        "download: train-images-idx3-ubyte: 47,040,016 bytes, SHA-256 as pinned",
    ]


def test_the_stage_starts_without_heavy_imports():
    code = "import stages.download, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"tensorflow", "tensorflow_federated", "mlflow", "pandas"} & set(loaded)
