"""Certificates from requests: who wants one makes its key, which never travels, and the CA signs.

    at the site       NAME.key, NAME.csr    the key, and the request, which goes to the CA
    at the CA         NAME.pem, issued/     the certificate, which goes back with ca.pem, and copies for `revoke`

Both sides see the fingerprint of the key, by which two people make sure that nobody exchanged the request.
"""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from fedpipe.errors import PipelineError
from fedpipe.system.certificates import (
    ISSUED,
    private,
    read_ca,
    require_name,
    revoked,
    signed,
    write_private,
)

_LARGEST = 2**16  # bytes of a request


class Request(NamedTuple):
    """A request, or the certificate for it."""

    file: Path
    name: str
    fingerprint: str  # of the key: the beginning of the SHA-256 of its public half


def request(folder: Path, name: str) -> Request:
    """Writes the request for ``name`` to ``folder``, and its key if there is none: a certificate is renewed with both.

    Raises:
      PipelineError: The name is not allowed, or the key is damaged.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    require_name(name)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / f"{name}.key"
    if not file.exists():
        write_private(file, private(ec.generate_private_key(ec.SECP256R1())))
    try:
        key: Any = serialization.load_pem_private_key(file.read_bytes(), None)
    except (ValueError, TypeError):
        raise PipelineError(f"{file} is no key without a password: remove it, and request again") from None
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    content = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    written = write_private(folder / f"{name}.csr", content.public_bytes(serialization.Encoding.PEM))
    return Request(written, name, _fingerprint(key.public_key()))


def sign(folder: Path, file: Path, expected: str | None = None, reserved: str = "coordinator") -> Request:
    """Signs the request in ``file`` by the CA of ``folder``, and writes the certificate there.

    Args:
      folder: With the CA's key.
      file: The request.
      expected: The only name that is allowed; None for all but the one that is ``reserved``.
      reserved: A name of another role than most.

    Raises:
      PipelineError: It is no request, its name is not allowed, or has a valid certificate with another key.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    try:
        if file.stat().st_size > _LARGEST:
            raise ValueError("too long")
        content = x509.load_pem_x509_csr(file.read_bytes())
        (attribute,) = content.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        name, public = str(attribute.value), content.public_key()
        if not content.is_signature_valid or not isinstance(public, ec.EllipticCurvePublicKey):
            raise ValueError("not signed by its key")
    except (OSError, ValueError, TypeError):
        raise PipelineError(
            f"{file} is no request of `python -m operations.federation request NAME`: take the file NAME.csr"
        ) from None
    require_name(name)
    if expected is not None and name != expected:
        raise PipelineError(f"{file} asks for the name {name!r}, and {expected} is expected")
    if expected is None and name == reserved:
        raise PipelineError(f"{file} asks for the name {name}: if it is the {name}'s, sign it with --{name}")
    ca = read_ca(folder)
    _require_free(folder, name, public)
    certificate = signed(name, public, ca)
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / ISSUED).mkdir(mode=0o700, exist_ok=True)
    write_private(folder / ISSUED / f"{name}.{certificate.serial_number:x}.pem", pem)
    return Request(write_private(folder / f"{name}.pem", pem), name, _fingerprint(public))


def _require_free(folder: Path, name: str, public: Any) -> None:
    """Checks that no other key has the name: who has two keys for it may be two."""
    from cryptography import x509

    file = folder / f"{name}.pem"
    if not file.exists():
        return
    former = x509.load_pem_x509_certificate(file.read_bytes())
    if _fingerprint(former.public_key()) != _fingerprint(public) and former.serial_number not in revoked(folder):
        raise PipelineError(
            f"{file} is a certificate of {name} with another key: if that key is not used any more, "
            f"`python -m operations.federation revoke {name}` before"
        )


def _fingerprint(public: Any) -> str:
    from cryptography.hazmat.primitives import serialization

    content = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    digits = hashlib.sha256(content).hexdigest()[:32]
    return ":".join(digits[start : start + 4] for start in range(0, 32, 4))
