"""The Debian source: packages made by the real dpkg-deb and a fake apt-get, and once the real one."""

import gzip
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedpipe.datasets.sources.apt import apt_package
from fedpipe.datasets.sources.fetch import fetch
from fedpipe.datasets.sources.published import FASHION_MNIST
from fedpipe.errors import PipelineError
from tests.fedpipe.datasets.sources.conftest import params_with

needs_dpkg = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="no dpkg-deb: Debian's and Ubuntu's tool")


@pytest.fixture
def fake_apt(tmp_path, monkeypatch):
    """Puts an ``apt-get`` before all others on PATH that runs ``code`` in the folder it is called in."""

    def install(code):
        place = tmp_path / "bin"
        place.mkdir(exist_ok=True)
        script = place / "apt-get"
        script.write_text(f"#!{sys.executable}\nimport sys, time, pathlib, shutil\n{code}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{place}:/usr/bin:/bin")

    return install


@pytest.fixture
def package(tmp_path, fake_apt):
    """A fake apt-get that leaves a Debian package with ``content`` in it, and notes how it was called."""

    def build(content):
        tree = tmp_path / "tree"
        (tree / "DEBIAN").mkdir(parents=True)
        control = "Package: some\nVersion: 1\nArchitecture: all\nMaintainer: me <me@example.com>\nDescription: some\n"
        (tree / "DEBIAN/control").write_text(control)
        for name, some in content.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes(some)
        made = tmp_path / "some_1_all.deb"
        subprocess.run(["dpkg-deb", "-b", str(tree), str(made)], check=True, capture_output=True)
        fake_apt(
            f"pathlib.Path({str(tmp_path / 'called')!r}).write_text(' '.join(sys.argv[1:]))\n"
            f"shutil.copy({str(made)!r}, '.')"
        )
        return made

    return build


@pytest.fixture
def reason(tiny, tmp_path, limits):
    """Why the apt source fails."""

    def get(time_limit=20.0):
        with pytest.raises(PipelineError) as raised:
            source = apt_package("some", limits, time_limit)
            fetch(tiny.dataset, tiny.dataset.files, [("apt", source)], tmp_path / "out")
        return str(raised.value).partition("\n  apt: ")[2]

    return get


@needs_dpkg
def test_apt_gives_every_file_wherever_it_lies_and_leaves_nothing_behind(tiny, tmp_path, limits, package, monkeypatch):
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    place = "usr/share/datasets/some"
    big, small = tiny.content["big"], tiny.content["small"]
    package({f"{place}/big.gz": gzip.compress(big), f"{place}/small": small, f"{place}/smaller": b"x"})
    fetch(tiny.dataset, tiny.dataset.files, [("apt", apt_package("some", limits))], tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == tiny.content
    assert list(scratch.iterdir()) == []
    called = (tmp_path / "called").read_text()
    assert called.startswith("download ") and called.endswith(" some") and "Acquire::http::Timeout=1" in called


@needs_dpkg
def test_package_without_the_files(reason, package):
    package({"usr/share/other": b"x"})
    assert reason() == "there is no big.gz or big in the package (and 1 more)"


@needs_dpkg
def test_package_with_other_bytes(tiny, reason, package):
    package({"big": tiny.content["big"][::-1], "small": tiny.content["small"]})
    assert reason().startswith("SHA-256 of big is ")


@needs_dpkg
def test_package_that_is_none(reason, package):
    made = package({"big": b"x"})
    made.write_bytes(b"not a package")
    assert reason().startswith("dpkg-deb --fsys-tarfile failed: dpkg-deb: error: ")


def test_no_apt(reason, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert reason() == "apt-get is not installed"


def test_apt_that_knows_no_such_package_says_so_without_its_warnings(reason, fake_apt):
    output = "W: something about lists\\nE: Unable to locate package some\\n"
    fake_apt(f"sys.stderr.write('{output}'); sys.exit(100)")
    assert reason() == "apt-get download failed: Unable to locate package some"


def test_apt_that_leaves_no_package(reason, fake_apt):
    fake_apt("pass")
    assert reason() == "apt-get download left 0 packages, expected 1"


def test_apt_that_hangs_is_ended(reason, fake_apt):
    fake_apt("time.sleep(60)")
    start = time.monotonic()
    assert reason(time_limit=0.5) == "apt-get download took longer than 0.5 s"
    assert time.monotonic() - start < 30


@pytest.mark.slow
def test_the_real_package_from_the_real_apt(tmp_path: Path):
    if shutil.which("apt-get") is None:
        pytest.skip("apt-get is not installed")
    limits = params_with(["unused"], 10.0, 30.0)
    source = ("apt", apt_package("dataset-fashion-mnist", limits))
    fetch(FASHION_MNIST, FASHION_MNIST.files, [source], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(file.name for file in FASHION_MNIST.files)
