"""The end of a training that was finished: one of the same params and more rounds resumes from it, to the same bits.

    logs/train/finished/round-000010-of-000010.safetensors    as a checkpoint (checkpoint.py); it may have stopped early
    logs/train/finished/clients/                              what clients kept

Only the last finished training is kept, and on this machine only: a fresh clone trains anew. It is no output of DVC,
which would delete it before its stage runs.
"""

import shutil
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError

from fedpipe.atomic import sync_folder
from fedpipe.config.train import Train
from fedpipe.runtime.checkpoint import Checkpoint, from_file, to_bytes
from fedpipe.runtime.kept_state import KeptState, is_whole
from fedpipe.runtime.progress import say
from fedpipe.runtime.training_key import Key, differences, rounds_decide

_CLIENTS = "clients"


class FinishedTraining:
    """The end of the last finished training, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, end: Checkpoint, rounds: int, key: Key, kept: KeptState | None, kept_folder: Path) -> None:
        """Takes the place of an earlier one. Says what goes wrong.

        Args:
          end: The training after its last round.
          rounds: How many it was to have, ``train.rounds``.
          key: Of the training.
          kept, kept_folder: What clients keep, which is moved from there.
        """
        partial = self._folder.with_name(f"{self._folder.name}.partial")
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            if kept is not None:
                kept.release(end.round)
                end = replace(end, last=kept.last, digests=kept.digests())
                kept_folder.rename(partial / _CLIENTS)
            (partial / f"round-{end.round:06d}-of-{rounds:06d}.safetensors").write_bytes(to_bytes(end, key))
            shutil.rmtree(self._folder, ignore_errors=True)
            partial.rename(self._folder)
            sync_folder(self._folder.parent)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            say(f"the training cannot be continued later, its end was not saved: {error.strerror or error}")

    def resumed(self, key: Key, settings: Train, kept_folder: Path) -> Checkpoint | None:
        """The end from which a training of more rounds resumes; None if there is none of the same training.

        What clients kept is copied to ``kept_folder``. One of no more rounds is not used: whoever runs a finished
        training again wants to see it trained again.
        """
        for path in self._folder.glob("round-*.safetensors"):
            try:
                end, its_key = from_file(path)
            except (SafetensorError, OSError, KeyError, TypeError, ValueError):
                say(f"{path} is damaged")
                continue
            if other := differences(its_key, key):
                if other == ["train.rounds"]:
                    say(f"starts anew: {rounds_decide(settings) or 'that of the finished training did'}")
                continue
            if int(path.stem.split("-")[-1]) >= settings.rounds or not end.is_one_of(settings):
                continue
            if end.last is not None and end.digests is not None:
                if not is_whole(self._folder / _CLIENTS, end.last, end.digests):
                    say(f"{self._folder / _CLIENTS} is damaged")
                    continue
                shutil.rmtree(kept_folder, ignore_errors=True)
                shutil.copytree(self._folder / _CLIENTS, kept_folder)
            say(f"continues with round {end.round + 1} of {settings.rounds} after a finished training, {path}")
            return end
        return None
