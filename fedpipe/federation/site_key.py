"""Secret keys of a site's own, which never leave it: one of digests, and one of the noise of its clients.

A plain SHA-256 of few samples tells who has them, or can guess them, that these are the ones. One with a key tells only
whether they are still the same. Noise with a key can be subtracted by nobody else.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from fedpipe.atomic import atomic_file, sync_folder
from fedpipe.datasets.shards import Manifest
from fedpipe.errors import PipelineError

_BYTES = 32
_DIGESTS = "digest.key"
_NOISE_BYTES = 16


@dataclass(frozen=True)
class SiteKey:
    """A key of 256 bits."""

    _key: bytes = field(repr=False)

    @staticmethod
    def of_digests(logs: Path) -> "SiteKey":
        """The key of digests, in a site's folder of logs; it is made when it is first needed.

        Raises:
          PipelineError: The file is damaged, or cannot be read or written.
        """
        return SiteKey(_read(logs / _DIGESTS, "this site's digests", "have the coordinator partition again"))

    @staticmethod
    def of_noise(file: Path) -> "SiteKey":
        """The key of the noise of a site's clients; it is made when it is first needed.

        Raises:
          PipelineError: As of `of_digests`.
        """
        remedy = "take no part in a training that it has begun: another key is a second release of the same updates"
        return SiteKey(_read(file, "the noise of this site's clients", remedy))

    def digest(self, purpose: str, content: bytes) -> str:
        """HMAC-SHA-256 of ``content``, in hexadecimal; other purposes have others."""
        return self._mac(purpose, content).hex()

    def digest_of(self, manifest: Manifest) -> str:
        """The digest of shards that others get: it tells nothing to who can guess samples."""
        return self.digest("shards", manifest.digest.encode())

    def noise(self, work: str) -> bytes:
        """The key, 16 bytes, of the noise in the answer to a question: two words of `Task.noise_key`.

        Args:
          work: The digest of all that decides the answer (`counted.work_of`). The same one has the same noise, so a
            repeated question tells nothing new; another one has other noise, so the difference of two answers tells of
            no client.
        """
        return self._mac("noise", work.encode())[:_NOISE_BYTES]

    def _mac(self, purpose: str, content: bytes) -> bytes:
        return hmac.new(self._key, purpose.encode() + b"\0" + content, hashlib.sha256).digest()


def noise_key_file(certificates: Path, name: str) -> Path:
    """Where a site's key of noise is: beside its certificate and its identity."""
    return certificates / f"{name}.noise"


def _read(file: Path, use: str, remedy: str) -> bytes:
    try:
        if not file.exists():
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with atomic_file(file) as partial:
                partial.touch(mode=0o600)
                partial.write_bytes(secrets.token_bytes(_BYTES))
            sync_folder(file.parent)
        key = file.read_bytes()
    except OSError as error:
        raise PipelineError(f"{file}: {error.strerror}; it is the key of {use}") from None
    if len(key) != _BYTES:
        raise PipelineError(f"{file} is damaged: it is the key of {use}: restore it, or remove it and {remedy}")
    return key
