"""Checkpoints: a training that is stopped or killed resumes from the last one, to the same bits.

    logs/train/checkpoints/round-000012.safetensors    the last two that were saved

checkpoint.py describes the file. The folder is no output of DVC, which would delete it, and no input.
"""

import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError

from fedpipe.atomic import atomic_file, sync_folder
from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import has_noise_at_clients, has_secret_noise
from fedpipe.runtime.checkpoint import Checkpoint, from_file, to_bytes
from fedpipe.runtime.finished import FinishedTraining
from fedpipe.runtime.kept_state import FolderStates, KeptState, States
from fedpipe.runtime.progress import say
from fedpipe.runtime.training_key import Key, differences, name_of
from fedpipe.system.locks import lock

_KEPT = 2  # checkpoints; the older one is for the case that the newer one is damaged
_SHARE = 0.05  # of a training's time that saving may take


class _Unusable(Exception):
    """Why a file is no checkpoint to resume from, as the words that follow its path and ``is``."""


class Checkpoints:
    """The checkpoints of a training in a folder.

    Use as a context manager, which keeps other trainings out of the folder, and looks for a checkpoint to resume from:
    ``resumed``. When the block ends without an error, the outputs stand, and all checkpoints are removed; the end of
    the training is kept for one of more rounds (finished.py).
    """

    def __init__(self, folder: Path, key: Key, settings: Train, states: States | None = None) -> None:
        """Checkpoints in ``folder``/checkpoints of the training that has this key.

        Args:
          folder: The folder.
          key: Of the training.
          settings: Section train of params.yaml.
          states: Where what clients keep is; by default in ``folder``.
        """
        # Client state. A cluster's worker that was taken for lost may still write for another training.
        self.kept_folder = folder / "clients" / name_of(key)
        self._states = states or FolderStates(self.kept_folder)
        # Sites remember what they answered, and their states are theirs.
        self._are_at_sites = states is not None
        self._finished = FinishedTraining(folder / "finished") if states is None else None
        self._end: tuple[Checkpoint, KeptState | None] | None = None
        self._folder = folder / "checkpoints"
        self._key, self._settings = key, settings
        self.resumed: Checkpoint | None = None
        self._rounds: list[int] = []  # of this training's checkpoints in the folder, ascending
        self._saved_at, self._cost = time.monotonic(), 0.0
        self.tracking: Mapping[str, str] = {}  # goes into each checkpoint

    @property
    def enabled(self) -> bool:
        """Whether the training is to be saved at all (``train.checkpoint.enabled``).

        One with secret noise is not: a round that were run again would be a second release, with other noise. Sites
        that draw the noise of their clients repeat it for a question that is repeated.
        """
        is_repeated = self._are_at_sites and has_noise_at_clients(self._settings)
        return self._settings.checkpoint.enabled and (is_repeated or not has_secret_noise(self._settings))

    @property
    def seconds_before(self) -> float:
        """How long the rounds took that earlier processes did."""
        return sum(self.resumed.seconds) if self.resumed else 0.0

    def latest(self) -> Checkpoint | None:
        """The last whole checkpoint of this training; says which one that is, or why an existing one is not used."""
        last: Checkpoint | None = None
        if not self.enabled:
            return None
        for path in sorted(self._folder.glob("round-*.safetensors"), reverse=True):
            try:
                usable = self._usable(path)
            except _Unusable as reason:
                if last is None:
                    say(f"{path} is {reason}")
                continue
            self._rounds.insert(0, usable.round)
            last = last or usable
        if last is None and self._finished is not None:
            last = self._finished.resumed(self._key, self._settings, self.kept_folder)
        elif last is not None:
            say(f"resumes at round {last.round + 1} of {self._settings.rounds}, after {self._path(last.round)}")
        if last is None and any(self._folder.glob("round-*.safetensors")):
            say("starts anew with round 1")
        return last

    def due(self) -> bool:
        """Whether it is time to save: some seconds after the last time, so many that saving is a small share."""
        pause = max(self._settings.checkpoint.seconds, self._cost / _SHARE)
        return self.enabled and time.monotonic() - self._saved_at >= pause

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Counts the block's time as the cost of a save, from which `due` computes when the next one is."""
        start = time.monotonic()
        yield
        self._saved_at = time.monotonic()
        self._cost = self._saved_at - start

    def save(self, checkpoint: Checkpoint, kept: KeptState | None) -> None:
        """Writes ``checkpoint``, and removes all but the last two and what only earlier ones would read.

        Raises:
          OSError: It cannot be written; those that were there are still there.
        """
        if kept is not None:
            checkpoint = replace(checkpoint, last=kept.last, digests=kept.digests())
        with atomic_file(self._path(checkpoint.round)) as partial:
            partial.write_bytes(to_bytes(replace(checkpoint, tracking=self.tracking), self._key))
        sync_folder(self._folder)
        self._rounds = [*(each for each in self._rounds if each != checkpoint.round), checkpoint.round][-_KEPT:]
        for path in set(self._folder.iterdir()) - {self._path(each) for each in self._rounds}:
            path.unlink()
        if kept is not None:
            kept.release(self._rounds[0])
        self._states.saved(self._rounds[0])

    def ended(self, end: Checkpoint | None, kept: KeptState | None) -> None:
        """Takes the training after its last round, which is kept when the block ends; None with secret noise."""
        self._end = None if end is None else (end, kept)

    def kept_state(self, clients: int) -> KeptState:
        """The client state, as ``resumed`` left it or before the first round."""
        resumed = self.resumed
        if resumed is None or resumed.last is None or resumed.digests is None:
            return self._states.start(clients, guarded=self.enabled)
        return self._states.restored(resumed.last, resumed.digests, resumed.round)

    def __enter__(self) -> "Checkpoints":
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._folder.with_name("training.lock"), os.O_WRONLY | os.O_CREAT, 0o644)
        lock(self._lock, math.inf, lambda: say(f"waits for another training that writes to {self._folder.parent}"))
        self.resumed = self.latest()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None and self.enabled:
            if self._end is not None and self._finished is not None and self._settings.checkpoint.keep_end:
                end, kept = self._end
                self._finished.keep(end, self._settings.rounds, self._key, kept, self.kept_folder)
            shutil.rmtree(self._folder, ignore_errors=True)
            shutil.rmtree(self.kept_folder.parent, ignore_errors=True)
        os.close(self._lock)

    def _path(self, round_number: int) -> Path:
        return self._folder / f"round-{round_number:06d}.safetensors"

    def _usable(self, path: Path) -> Checkpoint:
        """The checkpoint in a file. Raises `_Unusable`."""
        try:
            checkpoint, key = from_file(path)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError):
            raise _Unusable("damaged") from None
        if other := differences(key, self._key):
            raise _Unusable(f"of another training, which differs in {', '.join(other)}")
        if not checkpoint.is_one_of(self._settings):
            raise _Unusable(f"not on the way to {self._settings.rounds} rounds")
        last, digests = checkpoint.last, checkpoint.digests
        if last is not None and digests is not None and not self._states.is_whole(last, digests):
            raise _Unusable(f"without the files of {self._states.place} that it needs")
        return checkpoint
