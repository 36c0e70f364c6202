"""Client state at the sites; the coordinator knows which file is each client's last one, and its digest."""

from collections.abc import Callable, Collection
from typing import Protocol

import numpy as np

from fedpipe.errors import PipelineError
from fedpipe.runtime.kept_state import KeptState

LAST_ROUND = 2**31 - 1  # that there can be


class Digests(Protocol):
    """Asks sites for the digests of clients' files."""

    def __call__(
        self, last: np.ndarray, sites: Collection[str] | None = None, *, removes: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Asks.

        Args:
          last: int32 [clients], the round of each client's last file, or -1.
          sites: Their names; all by default.
          removes: Files of later rounds up to this one do not count, and are removed before.

        Returns:
          uint8 [clients, 32], a site's digest in the place of its first client, zeros if a file is missing there; and
          bool [clients], true in the place of the first client of each site that has answered.
        """


class KeptAtSites(KeptState):
    """`KeptState` of files at sites, which remove superseded files with the next request."""

    def __init__(
        self, ask: Digests, site_of: np.ndarray, last: np.ndarray, guarded: bool, digests: np.ndarray | None = None
    ) -> None:
        self._ask, self._site_of, self.last, self._guarded = ask, site_of, last, guarded
        self.released = 0  # files that were superseded up to this round are not needed
        self._digests = np.zeros((len(last), 32), np.uint8) if digests is None else digests.copy()
        self._digested = last.copy()  # the rounds of the files that the digests are of

    def release(self, round_number: int) -> None:
        """Notes the round for the next question."""
        self.released = max(self.released, round_number)

    def digests(self) -> np.ndarray:
        """Asks the sites. A lost site's digest is that of the last time, or zeros where its clients trained since."""
        digests, answered = self._ask(self.last)
        silent = ~np.isin(self._site_of, self._site_of[answered])
        digests[silent] = self._known()[silent]
        self._digests, self._digested = digests, self.last.copy()
        return digests

    def clean(self, sites: Collection[str], up_to: int = LAST_ROUND) -> None:
        """Has ``sites`` that were lost remove the files of rounds that do not count, up to the round ``up_to``.

        Raises:
          PipelineError: Files that do count are not there any more.
        """
        digests, answered = self._ask(self.last, sites, removes=up_to)
        if not _agree(digests[answered], self._known()[answered]):
            raise PipelineError(
                f"{', '.join(sites)}: the files of its clients are not those of this training's last rounds (logs/"
                "federation/state there): bring them back, or start the training anew"
            )

    def _known(self) -> np.ndarray:
        """The digests that stand, zeros for sites of clients that have trained since."""
        trained = np.isin(self._site_of, self._site_of[self._digested != self.last])
        return np.where(trained[:, None], np.uint8(0), self._digests)

    def _supersede(self, clients: np.ndarray, round_number: int) -> None:
        """Nothing: a site sees by the rounds of its files which of them are superseded."""


class StatesAtSites:
    """`States` of checkpoints (fedpipe/runtime/kept_state.py), at sites."""

    place = "the sites"

    def __init__(
        self, ask: Digests, site_of: np.ndarray, saved: Callable[[int], None] = lambda round_number: None
    ) -> None:
        """``site_of``: int64 [clients], the site of each client; ``saved``: as the method."""
        self._ask, self._site_of, self._saved = ask, site_of, saved
        self._kept: KeptAtSites | None = None

    @property
    def released(self) -> int:
        """The round up to which superseded files are not needed."""
        return 0 if self._kept is None else self._kept.released

    def start(self, clients: int, guarded: bool) -> KeptState:
        """Nothing is kept yet; files of an earlier attempt are written again."""
        self._kept = KeptAtSites(self._ask, self._site_of, np.full(clients, -1, np.int32), guarded)
        return self._kept

    def restored(self, last: np.ndarray, digests: np.ndarray, round_number: int) -> KeptState:
        """As after ``round_number``; files of later rounds are written again.

        Those of rounds before in which their site was lost are removed.
        """
        self._kept = KeptAtSites(self._ask, self._site_of, last.copy(), guarded=True, digests=digests)
        self._ask(last, removes=round_number)
        return self._kept

    def is_whole(self, last: np.ndarray, digests: np.ndarray) -> bool:
        """Sends the request to the sites, and to lost ones when they are back."""
        theirs, answered = self._ask(last)
        return _agree(theirs[answered], digests[answered])

    def saved(self, round_number: int) -> None:
        """Notes that no checkpoint of an earlier round is needed any more."""
        self._saved(round_number)

    def clean(self, sites: Collection[str], up_to: int = LAST_ROUND) -> None:
        """As `KeptAtSites.clean`, if clients keep anything."""
        if self._kept is not None:
            self._kept.clean(sites, up_to)


def _agree(theirs: np.ndarray, digests: np.ndarray) -> bool:
    """Whether sites have all files, with their digests uint8 [sites, 32] where these are known."""
    is_whole, unknown = theirs.any(axis=1), ~digests.any(axis=1)
    return bool((is_whole & (unknown | (theirs == digests).all(axis=1))).all())
