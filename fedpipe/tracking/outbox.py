"""The outbox: journals on their way to MLflow, and how far each has come.

A journal is a folder in the outbox. A stage writes it (journal.py), another process delivers
it (delivery.py), and either may be killed at any time:

    events.jsonl    one event per line; its writer holds a lock on it while it runs
    rebuild.jsonl   evaluations only: the events of the training, in case MLflow has no run for it
    files/          copies of the files to upload, so that a later run cannot change them
    delivery.json   how far delivery has come
    follower.lock   held by the process that delivers
"""

import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from fedpipe.atomic import write_text
from fedpipe.errors import PipelineError
from fedpipe.system.locks import try_lock
from fedpipe.tracking.run_events import Event

STORE = "MLFLOW_TRACKING_URI"  # in the environment, the address of the store for a process that delivers
_LEFT_BEHIND_SECONDS = 3600


def without_password(text: str) -> str:
    """``text`` with user and password taken out of the addresses in it."""
    return re.sub(r"://[^/@\s]*@", "://", text)


@dataclass
class Delivery:
    """How far a journal has been delivered: bytes of events.jsonl, and the result."""

    offset: int = 0
    rounds_before: int = 0  # that the run had when this journal was begun with
    run_id: str = ""
    run_name: str = ""
    done: bool = False
    trouble: str = ""


class Journal:
    """The folder of one journal."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name

    def events(self, offset: int = 0, file: str = "events.jsonl") -> Iterator[tuple[Event, int]]:
        """Yields each whole event from byte ``offset`` on, with the offset behind it; a torn last line is not there.

        Raises:
          PipelineError: A line is not an event.
        """
        with (self.path / file).open("rb") as lines:
            lines.seek(offset)
            for line in lines:
                if not line.endswith(b"\n"):
                    return
                offset += len(line)
                try:
                    yield json.loads(line), offset
                except ValueError:
                    raise PipelineError(
                        f"{self.path / file} is damaged before byte {offset}: delete the folder"
                    ) from None

    def delivery(self) -> Delivery:
        """How far delivery has come."""
        path = self.path / "delivery.json"
        return Delivery(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else Delivery()

    def save(self, delivery: Delivery) -> None:
        """Keeps ``delivery``, atomically."""
        write_text(self.path / "delivery.json", json.dumps(asdict(delivery)))

    def is_written(self) -> bool:
        """Whether the process that writes this journal is alive, and so may add to it."""
        try:
            with (self.path / "events.jsonl").open("rb") as file:
                return not try_lock(file, shared=True)
        except FileNotFoundError:  # delivered and removed by another process
            return False

    def is_ended(self) -> bool:
        """Whether nothing more will come."""
        if not self.is_written():
            return True
        return any(event["event"] == "end" for event, _ in self.events())

    @contextmanager
    def delivering(self) -> Iterator[bool]:
        """Yields whether this process is the one to deliver; others wait or continue."""
        with (self.path / "follower.lock").open("w") as file:
            yield try_lock(file)

    def remove(self) -> None:
        """Deletes the folder; renamed first, so that half of it is never taken for a journal."""
        gone = self.path.with_name(f".{self.name}")
        self.path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


@dataclass(frozen=True)
class Outbox:
    """The journals of a project, and where they are to go.

    Attributes:
      folder: The journals that are not delivered.
      log: The file for the output of the delivering processes.
      store: The address of MLflow's store.
    """

    folder: Path
    log: Path
    store: str

    @property
    def shown_store(self) -> str:
        """`store` for people's eyes: without the password that it may hold."""
        return without_password(self.store)

    def pending(self) -> list[Journal]:
        """The journals that are not delivered, oldest first: a training comes before its evaluation."""
        return journals_in(self.folder)

    def sweep(self) -> None:
        """Deletes the remains of a process that was killed while it made or removed a journal."""
        sweep(self.folder)


def journals_in(folder: Path) -> list[Journal]:
    """The journals in ``folder``, oldest first; none where it is not there."""
    if not folder.exists():
        return []
    return [Journal(path) for path in sorted(folder.iterdir()) if not path.name.startswith(".")]


def sweep(folder: Path) -> None:
    """Deletes the remains in ``folder`` of journals that were half made or half removed."""
    for path in folder.glob(".*"):
        if time.time() - path.stat().st_mtime > _LEFT_BEHIND_SECONDS:
            shutil.rmtree(path, ignore_errors=True)
