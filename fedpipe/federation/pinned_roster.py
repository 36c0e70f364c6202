"""roster.yaml: the sites of secure sums and their public keys, which sites exchange among themselves and pin.

    sites:
      hospital-a: 5f1d...    the Ed25519 public key that `python -m operations.federation identity hospital-a` prints
      hospital-b: 90ac...
      hospital-c: 0b77...
    colluding: 0             how many sites may side with the coordinator

The coordinator has a copy, and no part in it: whoever chooses the list can fill it with sites of its own.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field, StringConstraints, ValidationError

from fedpipe.atomic import sync_folder
from fedpipe.config.mistakes import mistakes
from fedpipe.config.section import Section
from fedpipe.config.text import read_yaml
from fedpipe.errors import PipelineError
from fedpipe.federation.messages import SiteName
from fedpipe.secure_aggregation.encoding import joined
from fedpipe.secure_aggregation.refusal import Refused
from fedpipe.secure_aggregation.roster import IDENTITY_BYTES, Roster
from fedpipe.secure_aggregation.setting import Setting

_PublicKey = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Sizes(Protocol):
    """The sizes of the vectors of a sum, and its noise: as of `Setting`."""

    @property
    def bits(self) -> int:
        """Weights are summed modulo 2^bits."""

    @property
    def length(self) -> int:
        """Number of weights."""

    @property
    def count(self) -> int:
        """Number of quantities."""

    @property
    def noise(self) -> int:
        """The least variance of a sum's noise."""


class _File(Section):
    sites: dict[SiteName, _PublicKey]
    colluding: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True)
class PinnedRoster:
    """The sites of a roster, in the order of their names: site i of the protocol is the i-th, from 1 on.

    Attributes:
      names: Of the sites.
      roster: Their keys.
    """

    names: tuple[str, ...]
    roster: Roster

    @staticmethod
    def read(file: Path) -> "PinnedRoster":
        """Reads ``file``.

        Raises:
          PipelineError: It is missing, or no roster.
        """
        if not file.exists():
            raise PipelineError(
                f"{file} is missing: 'train.aggregator' secure_sum in a federation needs the sites' public keys, which "
                "the sites exchange among themselves (docs/secure-aggregation.md)"
            )
        try:
            content = _File.model_validate(read_yaml(file))
            return PinnedRoster.of(content.sites, content.colluding)
        except ValidationError as error:
            raise PipelineError(f"{file}: {'; '.join(mistakes(error, _File))}") from None
        except Refused as error:
            raise PipelineError(f"{file}: {error}") from None

    @staticmethod
    def of(keys: dict[str, str], colluding: int = 0) -> "PinnedRoster":
        """A roster of public keys in hexadecimal digits, by the sites' names. Raises Refused as of `Roster`."""
        names = tuple(sorted(keys))
        return PinnedRoster(names, Roster(tuple(bytes.fromhex(keys[name]) for name in names), colluding))

    def number(self, name: str) -> int:
        """The number of a site, from 1 on."""
        return self.names.index(name) + 1

    def name(self, number: int) -> str:
        """The name of a site."""
        return self.names[number - 1]

    @property
    def digest(self) -> str:
        """A SHA-256 of names, keys and ``colluding``: two rosters with the same one are the same."""
        named = [name.encode() for name in self.names]
        parts = [b"%d" % self.roster.colluding, *named, *self.roster.identities]
        return hashlib.sha256(joined(b"fedpipe roster", *parts)).hexdigest()

    def setting(self, run: str, shared: bytes, sizes: Sizes) -> Setting:
        """The sums of a training; each party derives it by itself, so sites that were asked otherwise have no sum.

        Args:
          run: 64 hexadecimal digits that were drawn for this training.
          shared: As of `messages.shared_digest`, by the own question to join.
          sizes: Of a sum.
        """
        training = hashlib.sha256(joined(b"fedpipe training", bytes.fromhex(run), shared)).digest()
        return Setting(training, self.roster, sizes.bits, sizes.length, sizes.count, sizes.noise)


def identity_file(folder: Path, name: str) -> Path:
    """Where a site's private key is."""
    return folder / f"{name}.identity"


def make_identity(folder: Path, name: str) -> str:
    """Makes a site's identity, or reads the one that it has; returns its public key in hexadecimal digits.

    Raises:
      PipelineError: The file is damaged.
    """
    file = identity_file(folder, name)
    if not file.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as output:
            output.write(Ed25519PrivateKey.generate().private_bytes_raw().hex().encode() + b"\n")
            output.flush()
            os.fsync(output.fileno())
        sync_folder(folder)
    return read_identity(folder, name).public_key().public_bytes_raw().hex()


def read_identity(folder: Path, name: str) -> Ed25519PrivateKey:
    """A site's private key.

    Raises:
      PipelineError: It is missing or damaged.
    """
    file = identity_file(folder, name)
    if not file.is_file():
        raise PipelineError(
            f"{file} is missing: make the site's identity once with `python -m operations.federation identity {name}`, "
            "and give the other sites the public key that it prints"
        )
    try:
        key = bytes.fromhex(file.read_text(encoding="ascii").strip())
    except ValueError:
        key = b""
    if len(key) != IDENTITY_BYTES:
        raise PipelineError(f"{file} is damaged: restore it, or make another identity and a new roster with all sites")
    return Ed25519PrivateKey.from_private_bytes(key)
