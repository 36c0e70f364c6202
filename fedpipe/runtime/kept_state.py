"""What clients keep from round to round, a file per client and round, which fedpipe/learning/clients.py writes."""

import shutil
from pathlib import Path

import numpy as np


class KeptState:
    """The folder of what clients keep, a file per client and round."""

    def __init__(self, folder: Path, clients: int) -> None:
        """Starts with an empty folder: no client has kept anything yet."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder = folder.resolve()
        self.last = np.full(clients, -1, np.int32)  # the round of each client's last file; -1 for none

    def ask(self, clients: np.ndarray) -> np.ndarray:
        """What the engine is told of the ``clients`` (ids int32 [n]) of a round: int32 [n, 2], id and last round."""
        return np.stack([clients, self.last[clients]], axis=1)

    def advance(self, clients: np.ndarray, round_number: int) -> None:
        """Notes that ``clients`` have ended a round, and removes the files that no round will read again."""
        for client in clients[self.last[clients] >= 0]:
            (self.folder / f"{client}.{self.last[client]}").unlink(missing_ok=True)
        self.last[clients] = round_number
