"""What clients keep from round to round, a file per client and round, which fedpipe/learning/clients.py writes."""

import hashlib
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

_DIGEST_BYTES = 32  # of a SHA-256


class KeptState(ABC):
    """Which file is each client's last one; the files are in a folder here, or at sites."""

    last: np.ndarray  # int32 [clients]: the round of each client's last file; -1 for none
    _guarded: bool

    def advance(self, clients: np.ndarray, round_number: int) -> None:
        """Notes that ``clients`` have ended a round, which supersedes their files of earlier rounds."""
        self._supersede(clients[self.last[clients] >= 0], round_number)
        self.last[clients] = round_number
        if not self._guarded:
            self.release(round_number)

    @abstractmethod
    def release(self, round_number: int) -> None:
        """Removes the files that were superseded in a round up to ``round_number``."""

    @abstractmethod
    def digests(self) -> np.ndarray:
        """The SHA-256 of each client's last file, uint8 [clients, 32], zeros for none; the files are on disk then."""

    @abstractmethod
    def _supersede(self, clients: np.ndarray, round_number: int) -> None:
        """Notes that no later round reads the last files of ``clients``."""


class KeptFiles(KeptState):
    """What clients keep in a folder here."""

    def __init__(self, folder: Path, clients: int, guarded: bool = False) -> None:
        """Starts with an empty folder: no client has kept anything yet.

        Args:
          folder: Is cleared.
          clients: How many clients there are.
          guarded: Whether files that no round will read again stay until `release`, for the sake of checkpoints.
        """
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        self._start(folder, np.full(clients, -1, np.int32), np.zeros((clients, _DIGEST_BYTES), np.uint8), guarded)

    def _start(self, folder: Path, last: np.ndarray, digests: np.ndarray, guarded: bool) -> None:
        self.folder = folder.resolve()
        self.last = last
        self._digests, self._digested = digests, last.copy()  # and the round of the file that each digest is of
        self._guarded = guarded
        self._superseded: list[tuple[int, Path]] = []  # the round that made a file superfluous, and the file

    @classmethod
    def restored(
        cls, folder: Path, last: np.ndarray, digests: np.ndarray, round_number: int, guarded: bool = True
    ) -> "KeptFiles":
        """Resumes after ``round_number`` with ``last`` and `digests` as they were then; `is_whole` comes before."""
        kept = cls.__new__(cls)
        kept._start(folder, last.copy(), digests.copy(), guarded)
        for file in folder.iterdir():
            if not is_client_file(file):
                file.unlink()
                continue
            client, written = map(int, file.name.split("."))
            if written > round_number:
                file.unlink()  # of a round that is run again
            elif written != last[client]:
                kept._superseded.append((round_number, file))
        return kept

    def release(self, round_number: int) -> None:
        """Removes the files that were superseded in a round up to ``round_number``."""
        for _, file in [each for each in self._superseded if each[0] <= round_number]:
            file.unlink(missing_ok=True)
        self._superseded = [each for each in self._superseded if each[0] > round_number]

    def digests(self) -> np.ndarray:
        """The SHA-256 of each client's last file, uint8 [clients, 32], zeros for none; the files are on disk then."""
        for client in np.flatnonzero(self._digested != self.last):
            self._digests[client] = _digest(self.folder / f"{client}.{self.last[client]}", sync=True)
        self._digested = self.last.copy()
        return self._digests

    def _supersede(self, clients: np.ndarray, round_number: int) -> None:
        self._superseded += [(round_number, self.folder / f"{client}.{self.last[client]}") for client in clients]


class States(Protocol):
    """Where what clients keep is, for checkpoints."""

    @property
    def place(self) -> str:
        """The place in a message."""

    def start(self, clients: int, guarded: bool) -> KeptState:
        """What so many ``clients`` keep before the first round: nothing."""

    def restored(self, last: np.ndarray, digests: np.ndarray, round_number: int) -> KeptState:
        """What clients kept after ``round_number``; `is_whole` comes before."""

    def is_whole(self, last: np.ndarray, digests: np.ndarray) -> bool:
        """Whether the file of each client in ``last`` is there, with the SHA-256 that `KeptState.digests` gave."""

    def saved(self, round_number: int) -> None:
        """Notes that no checkpoint of an earlier round is needed any more."""


class FolderStates:
    """`States` in a folder here; it is removed when another training starts beside it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def place(self) -> str:
        """The folder."""
        return str(self._folder)

    def start(self, clients: int, guarded: bool) -> KeptState:
        """Clears the folder."""
        self._remove_others()
        return KeptFiles(self._folder, clients, guarded)

    def restored(self, last: np.ndarray, digests: np.ndarray, round_number: int) -> KeptState:
        """Removes files that no round will read."""
        self._remove_others()
        return KeptFiles.restored(self._folder, last, digests, round_number)

    def is_whole(self, last: np.ndarray, digests: np.ndarray) -> bool:
        """Reads the files."""
        return is_whole(self._folder, last, digests)

    def saved(self, round_number: int) -> None:
        """Nothing: `KeptState.release` removes superseded files."""

    def _remove_others(self) -> None:
        """Removes the client state of other trainings."""
        for other in set(self._folder.parent.glob("*")) - {self._folder}:
            shutil.rmtree(other, ignore_errors=True)


def is_client_file(path: Path) -> bool:
    """Whether a file has the name CLIENT.ROUND; one that a killed worker did not finish has another one."""
    return path.name.count(".") == 1


def is_whole(folder: Path, last: np.ndarray, digests: np.ndarray) -> bool:
    """Whether ``folder`` holds the file of each client in ``last``, with the SHA-256 that `digests` gave."""
    try:
        return all(
            (_digest(folder / f"{client}.{last[client]}") == digests[client]).all()
            for client in np.flatnonzero(last >= 0)
        )
    except FileNotFoundError:
        return False


def digest_if_there(folder: Path, client: int, round_number: int) -> np.ndarray:
    """The SHA-256 of a client's file, uint8 [32]; zeros if it is not there. The file is on the disk then."""
    try:
        return _digest(folder / f"{client}.{round_number}", sync=True)
    except FileNotFoundError:
        return np.zeros(_DIGEST_BYTES, np.uint8)


def remove_later(folder: Path, last: Mapping[int, int], up_to: int) -> None:
    """Removes the clients' files of rounds after ``last``, by client, up to one; there may be no folder."""
    for file in folder.iterdir() if folder.is_dir() else ():
        if is_client_file(file):
            client, written = map(int, file.name.split("."))
            if last.get(client, written) < written <= up_to:
                file.unlink()


def remove_superseded(folder: Path, round_number: int) -> None:
    """Removes from a folder the files that were superseded in a round up to ``round_number``."""
    rounds: dict[str, list[int]] = {}
    for file in folder.iterdir():
        if is_client_file(file):
            client, _, written = file.name.partition(".")
            rounds.setdefault(client, []).append(int(written))
    for client, written_in in rounds.items():
        for old in sorted(each for each in written_in if each <= round_number)[:-1]:
            (folder / f"{client}.{old}").unlink(missing_ok=True)


def _digest(file: Path, sync: bool = False) -> np.ndarray:
    """The SHA-256 of a file, uint8 [32]; with ``sync`` the file is on the disk, too."""
    with file.open("rb") as opened:
        if sync:
            os.fsync(opened.fileno())
        return np.frombuffer(hashlib.file_digest(opened, "sha256").digest(), np.uint8)
