"""What clients keep at their sites; the coordinator knows which file is each client's last one, and its digest."""

from collections.abc import Callable

import numpy as np

from fedpipe.runtime.kept_state import KeptState

# int32 [clients], the round of each client's last file -> uint8 [clients, 32]
Digests = Callable[[np.ndarray], np.ndarray]


class KeptAtSites(KeptState):
    """`KeptState` of files at sites, which remove what was superseded with the next question."""

    def __init__(self, digests: Digests, last: np.ndarray, guarded: bool, released: int = 0) -> None:
        self._ask, self.last, self._guarded = digests, last, guarded
        self.released = released  # files that were superseded up to this round are not needed

    def release(self, round_number: int) -> None:
        """Notes the round for the next question."""
        self.released = max(self.released, round_number)

    def digests(self) -> np.ndarray:
        """Asks the sites."""
        return self._ask(self.last)

    def _supersede(self, clients: np.ndarray, round_number: int) -> None:
        """Nothing: a site sees by the rounds of its files which of them are superseded."""


class StatesAtSites:
    """`States` of checkpoints (fedpipe/runtime/kept_state.py), at sites."""

    place = "the sites"

    def __init__(self, digests: Digests, saved: Callable[[int], None] = lambda round_number: None) -> None:
        """``saved``: as the method."""
        self._ask, self._saved = digests, saved
        self._kept: KeptAtSites | None = None

    @property
    def released(self) -> int:
        """The round up to which superseded files are not needed."""
        return 0 if self._kept is None else self._kept.released

    def start(self, clients: int, guarded: bool) -> KeptState:
        """Nothing is kept yet; files of an earlier attempt are written again."""
        self._kept = KeptAtSites(self._ask, np.full(clients, -1, np.int32), guarded)
        return self._kept

    def restored(self, last: np.ndarray, digests: np.ndarray, round_number: int) -> KeptState:
        """As after ``round_number``; files of later rounds are written again."""
        self._kept = KeptAtSites(self._ask, last.copy(), guarded=True)
        return self._kept

    def is_whole(self, last: np.ndarray, digests: np.ndarray) -> bool:
        """Asks the sites."""
        return bool((self._ask(last) == digests).all())

    def saved(self, round_number: int) -> None:
        """Notes that no checkpoint of an earlier round is needed any more."""
        self._saved(round_number)
