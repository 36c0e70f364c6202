"""A site's own key, which never leaves it: with it, digests of samples and of files tell others nothing.

A plain SHA-256 of few samples tells who has them, or can guess them, that these are the ones. One with a key tells only
whether they are still the same.
"""

import hashlib
import hmac
import secrets
from pathlib import Path

from fedpipe.atomic import atomic_file
from fedpipe.errors import PipelineError

_BYTES = 32
_FILE = "digest.key"


class SiteKey:
    """The key in a site's folder of logs, made when it is first needed."""

    def __init__(self, logs: Path) -> None:
        """Reads the key, or makes one.

        Raises:
          PipelineError: The file is damaged, or cannot be read or written.
        """
        file = logs / _FILE
        try:
            if not file.exists():
                logs.mkdir(parents=True, exist_ok=True)
                with atomic_file(file) as partial:
                    partial.touch(mode=0o600)
                    partial.write_bytes(secrets.token_bytes(_BYTES))
            self._key = file.read_bytes()
        except OSError as error:
            raise PipelineError(f"{file}: {error.strerror}; this site's digests are made with it") from None
        if len(self._key) != _BYTES:
            raise PipelineError(f"{file} is damaged: remove it, and have the coordinator partition again")

    def digest(self, purpose: str, content: bytes) -> str:
        """HMAC-SHA-256 of ``content``, in hexadecimal; other purposes have others."""
        return hmac.new(self._key, purpose.encode() + b"\0" + content, hashlib.sha256).hexdigest()
