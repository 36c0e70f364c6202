"""Which cluster is chosen, and which addresses are refused; certificates; none of it needs Dask."""

import shutil
import subprocess
from pathlib import Path

import pytest

from fedpipe.cluster import settings
from fedpipe.cluster.settings import ClusterSettings, chosen, dask_address, require_fitting
from fedpipe.errors import PipelineError
from fedpipe.runtime.facts import differences
from fedpipe.system import certificates
from fedpipe.system.certificates import files, make_certificates
from tests.fedpipe.training import train_settings


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (settings.ADDRESS, settings.CERTIFICATES, settings.SHARED_FOLDER):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(settings, "require_dask", lambda: None)


def test_this_machine_alone_is_the_default(tmp_path: Path) -> None:
    assert chosen(tmp_path / "cluster.yaml") is None


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("address: tls://one:1\nshared_folder: /shared\nchunk_seconds: 5\n")
    actual = chosen(file)
    assert actual and actual.address == "tls://one:1" and actual.shared_folder == Path("/shared")
    assert actual.chunk_seconds == 5.0 and actual.certificates == Path("certificates")
    monkeypatch.setenv(settings.ADDRESS, "tls://two:2")
    actual = chosen(file)
    assert actual and actual.address == "tls://two:2"
    monkeypatch.setenv(settings.ADDRESS, "")
    assert chosen(file) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "addres: tls://one:1",
            "cluster.yaml: unknown key 'addres' \\(did you mean address\\?\\); all",
        ),
        ("- 1", "must hold keys with values"),
        ("a: 1\nb: [", "cluster.yaml, line 2 is not valid YAML"),
        ("address: tls://one:1\nchunk_seconds: 0", "'chunk_seconds' is 0: should be greater than 0"),
        ("address: 8786\nwait_seconds: no", "'address' is 8786: should be a valid string; 'wait_seconds' is 'no'"),
        ("address: tcp://one:1", r"is not protected.* say tcp\+insecure://one:1 to accept that"),
        ("address: one:1", "should be tls://host:port"),
        ("address: tls://one", "should be tls://host:port"),
        ("address: tls://one:99999", "should be tls://host:port"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(text)
    with pytest.raises(PipelineError, match=message) as raised:
        chosen(file)
    assert "\n" not in str(raised.value)


def test_no_encryption_must_be_asked_for_by_name() -> None:
    assert dask_address("tcp+insecure://one:1") == "tcp://one:1"


def test_certificates_are_made_once_and_verify(tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    written = make_certificates(folder)
    assert len(written) == 8 and not make_certificates(folder)
    assert [file.name for file in make_certificates(folder, ["other"])] == ["other.key", "other.pem"]
    for file in folder.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file
    for name in ("scheduler", "worker", "driver", "other"):
        command = ["openssl", "verify", "-x509_strict", "-CAfile", str(folder / "ca.pem"), str(folder / f"{name}.pem")]
        assert subprocess.run(command, check=False, capture_output=True).returncode == 0, name
        assert files(folder, name)
    (folder / "ca.key").unlink()
    with pytest.raises(PipelineError, match=r"ca\.key is missing, so no certificate can be signed"):
        make_certificates(folder, ["late"])


def test_certificates_that_cannot_work_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_certificates(tmp_path / "one")
    make_certificates(tmp_path / "two")
    shutil.copy(tmp_path / "two/ca.pem", tmp_path / "one")
    with pytest.raises(PipelineError, match=r"driver\.pem is not a certificate that the CA of .*ca\.pem has signed"):
        files(tmp_path / "one", "driver")
    (tmp_path / "two/driver.pem").write_text("no certificate")
    with pytest.raises(PipelineError, match="is not a certificate"):
        files(tmp_path / "two", "driver")
    monkeypatch.setattr(certificates, "_DAYS", 0)
    make_certificates(tmp_path / "two", ["late"])
    with pytest.raises(PipelineError, match=r"late\.pem was valid until 20\d\d-.* run `make certificates` there"):
        files(tmp_path / "two", "late")


def test_what_cannot_work_is_refused_before_any_stage(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    known = ClusterSettings(address="tls://one:1", certificates=tmp_path)
    require_fitting(known, train_settings())
    with pytest.raises(PipelineError, match=r"driver\.pem is missing|ca\.pem is missing"):
        require_fitting(ClusterSettings(address="tls://one:1", certificates=tmp_path / "none"), train_settings())
    require_fitting(ClusterSettings(address="tcp+insecure://one:1", certificates=tmp_path / "none"), train_settings())
    secret = train_settings(aggregator="dp_gaussian", client_weighting="uniform", privacy={"noise": "secret"})
    with pytest.raises(PipelineError, match="a secret does not travel to a cluster's workers"):
        require_fitting(known, secret)
    for changes in ({"algorithm": "scaffold"}, {"compressor": "top_k"}):
        (key, name), kept = *changes.items(), train_settings(**changes)
        with pytest.raises(PipelineError, match=rf"'train\.{key}' {name} keeps a file per client"):
            require_fitting(known, kept)
        require_fitting(known.model_copy(update={"shared_folder": tmp_path}), kept)
        with pytest.raises(PipelineError, match="none is no folder here"):
            require_fitting(known.model_copy(update={"shared_folder": tmp_path / "none"}), kept)


def test_differences_name_what_differs() -> None:
    assert differences({"a": "1", "b": "2"}, {"a": "1", "b": "3"}) == ["b (3, here 2)"]
    assert differences({"a": "f" * 64}, {}) == [f"a (not there, here {'f' * 12})"]
