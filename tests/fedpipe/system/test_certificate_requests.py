"""Certificates from requests: no key travels, and a name has one key."""

import datetime
from pathlib import Path

import pytest

from fedpipe.errors import PipelineError
from fedpipe.system import certificates as certificates_module
from fedpipe.system.certificate_requests import request, sign
from fedpipe.system.certificates import FEDERATION, ends, files, make_certificates, revoke, revoked, soon


def renewed_at(monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    """Certificates that are made from now on are valid for so many days."""
    monkeypatch.setattr(certificates_module, "_DAYS", days)


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    make_certificates(tmp_path / "ca", ["coordinator"])
    return tmp_path / "ca"


def brought(ca: Path, site: Path, name: str) -> None:
    """The certificate goes to the site."""
    for file in ("ca.pem", f"{name}.pem"):
        (site / file).write_bytes((ca / file).read_bytes())


def test_a_site_gets_a_certificate_and_its_key_stays(ca: Path, tmp_path: Path) -> None:
    made = request(tmp_path / "site", "hospital-a")
    assert made.file.read_bytes().startswith(b"-----BEGIN CERTIFICATE REQUEST")
    assert (tmp_path / "site/hospital-a.key").stat().st_mode & 0o777 == 0o600
    signed = sign(ca, made.file)
    assert signed.name == "hospital-a" and signed.fingerprint == made.fingerprint
    brought(ca, tmp_path / "site", "hospital-a")
    files(tmp_path / "site", "hospital-a", FEDERATION)
    assert not list(ca.rglob("hospital-a.key"))


def test_a_renewed_certificate_has_the_key_and_both_are_revoked(ca: Path, tmp_path: Path) -> None:
    first = sign(ca, request(tmp_path / "site", "hospital-a").file)
    former = first.file.read_bytes()
    second = sign(ca, request(tmp_path / "site", "hospital-a").file)
    assert second.fingerprint == first.fingerprint and second.file.read_bytes() != former
    revoke(ca, "hospital-a")
    assert len(revoked(ca)) == 2


def test_a_name_has_one_key_until_that_is_revoked(ca: Path, tmp_path: Path) -> None:
    sign(ca, request(tmp_path / "site", "hospital-a").file)
    thief = request(tmp_path / "thief", "hospital-a")
    with pytest.raises(PipelineError, match=r"of hospital-a with another key: .* revoke hospital-a` before"):
        sign(ca, thief.file)
    revoke(ca, "hospital-a")
    assert sign(ca, thief.file).fingerprint == thief.fingerprint


def test_the_name_of_the_coordinator_is_signed_where_that_is_meant(ca: Path, tmp_path: Path) -> None:
    (ca / "coordinator.pem").unlink()
    made = request(tmp_path / "site", "coordinator")
    with pytest.raises(PipelineError, match=r"asks for the name coordinator: .* --coordinator"):
        sign(ca, made.file)
    with pytest.raises(PipelineError, match="asks for the name 'hospital-a', and coordinator is expected"):
        sign(ca, request(tmp_path / "site", "hospital-a").file, "coordinator")
    assert sign(ca, made.file, "coordinator").name == "coordinator"


@pytest.mark.parametrize("content", [b"", b"x" * 100_000, b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n"])
def test_what_is_no_request_is_refused(ca: Path, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "hospital-a.csr"
    for _ in range(2):
        with pytest.raises(PipelineError, match=r"hospital-a.csr is no request of"):
            sign(ca, file)
        file.write_bytes(content)
    with pytest.raises(PipelineError, match=r"is no request of"):
        sign(ca, ca / "ca.pem")


def test_a_certificate_that_ends_soon_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_certificates(tmp_path, ["site-1"])
    assert not soon(tmp_path, "site-1")
    assert ends(tmp_path, "site-1")[1] > datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=360)
    renewed_at(monkeypatch, 12)
    make_certificates(tmp_path, ["site-2"])
    assert "site-2.pem is valid until" in soon(tmp_path, "site-2") and "more days: renew it" in soon(tmp_path, "site-2")
    make_certificates(tmp_path / "old", ["site-1"])
    renewed_at(monkeypatch, 365)
    make_certificates(tmp_path / "old", ["site-2"])
    assert "ca.pem is valid until" in soon(tmp_path / "old", "site-2")
