"""Certificates by a certificate authority (CA) of one's own, for a cluster or for a federation.

    certificates/
      ca.pem, ca.key      the CA; its key stays where certificates are made
      NAME.pem, NAME.key  for each name; of a cluster scheduler, worker and driver
      revoked.pem         of a federation: certificates that are valid no longer
      issued/             of a federation: every certificate that was signed from a request (certificate_requests.py)

Both sides of every connection show their certificate. A federation knows a site by the name in its certificate. Dask
does not look at names: every certificate of a cluster's CA opens every door, and with it the machines, because Dask's
messages are pickles. So the two have CAs of their own.
"""

import datetime
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fedpipe.atomic import atomic_file
from fedpipe.errors import PipelineError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

ROLES = ("scheduler", "worker", "driver")
_DAYS = 365
SOON_DAYS = 30  # before its end, from which on a certificate is named
_REVOKED = "revoked.pem"
ISSUED = "issued"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_OF_THE_CA = ("ca", "revoked")  # whose files have these names


class Maker(NamedTuple):
    """Who makes certificates, for messages."""

    whose: str
    command: str


CLUSTER = Maker("the cluster's", "make certificates")
FEDERATION = Maker("the federation's", "make federation-certificates")


def make_certificates(folder: Path, names: Sequence[str] = ROLES) -> list[Path]:
    """Makes a CA if there is none, and a certificate for each of ``names`` that has none; returns the written files.

    Raises:
      PipelineError: A name is not allowed, or there is a CA without its key.
    """
    for name in names:
        require_name(name)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    written = []
    if not (folder / "ca.pem").exists():
        key, certificate = _made("fedpipe CA", None)
        written += _write(folder, "ca", key, certificate)
    missing = [name for name in names if not (folder / f"{name}.pem").exists()]
    if missing:
        ca = read_ca(folder)
        for name in missing:
            written += _write(folder, name, *_made(name, ca))
    return written


def require_name(name: str) -> None:
    """Checks the name of a certificate.

    Raises:
      PipelineError: It cannot have this name.
    """
    if not _NAME.fullmatch(name) or name in _OF_THE_CA:
        raise PipelineError(
            f"{name!r} cannot be the name of a certificate: take letters, digits and hyphens, at most 63, and "
            f"neither {' nor '.join(_OF_THE_CA)}"
        )


def files(folder: Path, name: str, maker: Maker = CLUSTER) -> tuple[Path, Path, Path]:
    """The paths of the CA's certificate, and of the certificate and key of ``name``.

    Raises:
      PipelineError: One of them is missing, the certificate is not of this CA, or it is not valid any more.
    """
    files = folder / "ca.pem", folder / f"{name}.pem", folder / f"{name}.key"
    for file in files:
        if not file.is_file():
            raise PipelineError(
                f"{file} is missing: make {maker.whose} certificates once with `{maker.command}`, and bring "
                f"ca.pem, {name}.pem and {name}.key to this machine"
            )
    _require_valid(*files[:2], maker)
    return files


def revoke(folder: Path, name: str) -> Path:
    """Adds the certificates of ``name`` to the CA's list of revoked ones, and returns the file of the list.

    Raises:
      PipelineError: The certificate does not exist, or the CA's key is not here.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    try:
        issued = [folder / f"{name}.pem", *sorted((folder / ISSUED).glob(f"{name}.*.pem"))]
        numbers = {x509.load_pem_x509_certificate(file.read_bytes()).serial_number for file in issued}
    except (FileNotFoundError, ValueError):
        raise PipelineError(f"{folder / f'{name}.pem'} is no certificate, so there is nothing to revoke") from None
    key, ca = read_ca(folder)
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(ca.subject).last_update(now)
    builder = builder.next_update(now + datetime.timedelta(days=_DAYS))
    for number in sorted(revoked(folder) | numbers):
        entry = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(now).build()
        builder = builder.add_revoked_certificate(entry)
    file = folder / _REVOKED
    with atomic_file(file) as partial:
        partial.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return file


def revoked(folder: Path) -> set[int]:
    """The serial numbers of revoked certificates; none without a list.

    Raises:
      PipelineError: The list is damaged, or not signed by the CA of the folder.
    """
    from cryptography import x509

    file = folder / _REVOKED
    if not file.exists():
        return set()
    ca: Any = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    try:
        listed = x509.load_pem_x509_crl(file.read_bytes())
        signed = listed.is_signature_valid(ca.public_key())
    except (ValueError, TypeError):
        signed = False
    if not signed:
        raise PipelineError(f"{file} is no list that the CA of {folder / 'ca.pem'} has signed: bring the CA's own")
    return {entry.serial_number for entry in listed}


def ends(folder: Path, name: str) -> tuple[Path, datetime.datetime]:
    """Which certificate ends first, that of ``name`` or its CA's by a day or more, and when; `files` comes before."""
    from cryptography import x509

    own, of_ca = (
        (file, x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc)
        for file in (folder / f"{name}.pem", folder / "ca.pem")
    )
    return of_ca if own[1] - of_ca[1] >= datetime.timedelta(days=1) else own


def soon(folder: Path, name: str, days: int = SOON_DAYS) -> str:
    """A sentence if a certificate of ``name`` or its CA's ends within so many ``days``; empty if none does."""
    file, end = ends(folder, name)
    left = (end - datetime.datetime.now(datetime.UTC)).days
    if left >= days:
        return ""
    return f"{file} is valid until {end:%Y-%m-%d}, {left} more days: renew it before (docs/federation.md, Certificates)"


def serial_number(certificate: bytes) -> int:
    """The serial number of a certificate in PEM."""
    from cryptography import x509

    return x509.load_pem_x509_certificate(certificate).serial_number


def _require_valid(ca: Path, file: Path, maker: Maker) -> None:
    """Reports faults that a broken handshake would not show."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    try:
        signer, certificate = (x509.load_pem_x509_certificate(each.read_bytes()) for each in (ca, file))
        certificate.verify_directly_issued_by(signer)
    except (ValueError, TypeError, InvalidSignature):
        raise PipelineError(
            f"{file} is not a certificate that the CA of {ca} has signed: take both from the same folder"
        ) from None
    for each, at in ((signer, ca), (certificate, file)):
        end = each.not_valid_after_utc
        if end < datetime.datetime.now(datetime.UTC):
            raise PipelineError(
                f"{at} was valid until {end:%Y-%m-%d}: remove it where the CA's key is, run `{maker.command}` there, "
                "and bring the new files to all machines"
            )


Signer = tuple["EllipticCurvePrivateKey", "x509.Certificate"]


def _made(name: str, ca: Signer | None) -> Signer:
    """A key and its certificate, signed by ``ca``, or by itself as a CA."""
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    return key, signed(name, key.public_key(), ca or (key, None))


def signed(name: str, public: Any, signer: tuple["EllipticCurvePrivateKey", "x509.Certificate | None"]) -> Any:
    """A certificate for the key ``public``, by the ``signer``; by a signer without a certificate it is a CA's own."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key, ca = signer
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    usage = {"key_encipherment": False, "content_commitment": False, "data_encipherment": False}
    usage |= {"key_agreement": False, "encipher_only": False, "decipher_only": False}
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if ca is None else ca.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # clocks differ
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
        .add_extension(x509.BasicConstraints(ca=ca is None, path_length=0 if ca is None else None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=ca is not None, key_cert_sign=ca is None, crl_sign=ca is None, **usage),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    if ca is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
    return builder.sign(key, hashes.SHA256())


def _write(folder: Path, name: str, key: Any, certificate: Any) -> list[Path]:
    from cryptography.hazmat.primitives import serialization

    contents = {f"{name}.key": private(key), f"{name}.pem": certificate.public_bytes(serialization.Encoding.PEM)}
    return [write_private(folder / file, content) for file, content in contents.items()]


def private(key: Any) -> bytes:
    """A key in PEM, without a password."""
    from cryptography.hazmat.primitives import serialization

    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem


def write_private(file: Path, content: bytes) -> Path:
    """Writes a file that its owner alone reads."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as output:
        os.fchmod(descriptor, 0o600)  # a file that was there keeps its mode otherwise
        output.write(content)
    return file


def read_ca(folder: Path) -> Signer:
    """The CA's key and certificate.

    Raises:
      PipelineError: The key is not here.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    try:
        key: Any = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    except FileNotFoundError:
        raise PipelineError(
            f"{folder / 'ca.key'} is missing, so no certificate can be signed: make them where the CA's key is"
        ) from None
    return key, x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
