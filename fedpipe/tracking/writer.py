"""A journal in the making, and the process that delivers it (journal.py says what for)."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePath
from typing import Any

from ruamel.yaml import YAML
from tqdm import tqdm

from fedpipe.atomic import naming
from fedpipe.system.children import how_it_ended
from fedpipe.system.locks import try_lock
from fedpipe.tracking import run_events
from fedpipe.tracking.outbox import STORE, Journal, Outbox
from fedpipe.tracking.run_events import Event

_PARAMS = "params.yaml"  # as the artifact of a run is called
_WAIT_SECONDS = 30.0
_STAMP = "%Y%m%dT%H%M%S.%f"


class Writer:
    """A journal in the making, and the follower that delivers it."""

    def __init__(self, kind: str, outbox: Outbox) -> None:
        self._outbox = outbox
        name = self.name = f"{_later_than_all(outbox, datetime.now(UTC)):{_STAMP}}Z-{kind}-{os.getpid()}"
        # Hidden until `publish`, so that nobody delivers a journal without its beginning.
        self._hidden = outbox.folder / f".{name}"
        self._hidden.mkdir(parents=True)
        self.journal = Journal(self._hidden)
        self._events = (self._hidden / "events.jsonl").open("a", encoding="utf-8")
        try_lock(self._events)
        self._follower: subprocess.Popen[bytes] | None = None
        self._has_told_trouble = False
        self.has_events = False

    def keep(self, files: Mapping[str, Sequence[Path]]) -> dict[str, list[str]]:
        """Copies files into the journal and returns where they are there, by artifact folder."""
        return {folder: [self._keep(path, folder) for path in paths] for folder, paths in files.items() if paths}

    def keep_params(self, params: Mapping[str, Any]) -> dict[str, list[str]]:
        """Writes a run's params as a params.yaml; returns where it is, as `keep` does."""
        kept = PurePath("files", _PARAMS)
        target = self.journal.path / kept
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("w", encoding="utf-8") as file:
            yaml: Any = YAML(typ="safe", pure=True)
            yaml.default_flow_style, yaml.sort_base_mapping_type_on_output = False, False
            yaml.dump(dict(params), file)
        return {"": [str(kept)]}

    def keep_json(self, name: str, content: Mapping[str, Any]) -> list[str]:
        """Writes a JSON file into the journal; returns where it is, as `keep` does for a folder."""
        kept = PurePath("files", name)
        (self.journal.path / kept).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        return [str(kept)]

    def keep_weights(self, path: Path) -> dict[str, str]:
        """Copies the weights into the journal; returns ``path`` there and ``sha256``."""
        kept = self._keep(path, "weights")
        return {"path": kept, "sha256": run_events.sha256(self.journal.path / kept)}

    def _keep(self, path: Path, folder: str) -> str:
        kept = PurePath("files", folder, path.name)
        target = self.journal.path / kept
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        return str(kept)

    def add(self, *events: Event) -> None:
        """Appends ``events`` together, so that they survive the end of this process."""
        with naming(self.journal.path):
            self._events.write("".join(json.dumps(event) + "\n" for event in events))
            self._events.flush()
        self.has_events = True

    def add_rebuilding(self, events: Sequence[Event]) -> None:
        """Stores the training's events in case MLflow has no run for them."""
        lines = "".join(json.dumps(event) + "\n" for event in events)
        (self.journal.path / "rebuild.jsonl").write_text(lines, encoding="utf-8")

    def publish(self) -> None:
        """Shows the journal to followers, and starts one for it."""
        self.journal = Journal(self._hidden.with_name(self._hidden.name[1:]))
        self._hidden.rename(self.journal.path)
        self._follower = _start_follower(self.journal, self._outbox)

    def say_trouble(self) -> None:
        """Says once that MLflow does not get the run, if so; costs one look for a file and one for a process."""
        if self._has_told_trouble:
            return
        code = self._follower.poll() if self._follower else None
        if trouble := self._ended(code) or self.journal.delivery().trouble:
            self._has_told_trouble = True
            where = self._outbox.folder
            _say(f"MLflow: {self._outbox.shown_store} {trouble}; the run continues, and its events are kept in {where}")

    def discard(self) -> None:
        """Ends without having reported anything."""
        if self._follower:
            self._follower.terminate()
            self._follower.wait()
        self._events.close()
        self.journal.remove()

    def close(self) -> None:
        """Waits, for a bounded time, until all is delivered, and reports the result in one line."""
        seconds = float(os.environ.get("FEDPIPE_TRACKING_WAIT", _WAIT_SECONDS))
        ended = ""
        if self._follower:
            try:
                ended = self._ended(self._follower.wait(seconds))
            except subprocess.TimeoutExpired:
                self._follower.terminate()
                self._follower.wait()
        delivery = self.journal.delivery()
        if delivery.done:
            self.journal.remove()
            _say(f"MLflow: run {delivery.run_name} in {self._outbox.shown_store}")
        else:
            count = sum(1 for _ in self.journal.events())
            trouble = ended or delivery.trouble or f"did not take the run within {seconds:g} s (see {self._outbox.log})"
            _say(
                f"MLflow: {self._outbox.shown_store} {trouble}; the run continued, and its {count} events are kept in "
                f"{self._outbox.folder}; they are logged by the next run or by 'make sync'"
            )
        self._events.close()

    def _ended(self, code: int | None) -> str:
        """What an exit code of the follower says of the store; empty if it is none or the follower had its say."""
        if code is None or code == 0:
            return ""
        return f"does not get the run, since the process that delivers it {how_it_ended(code)} (see {self._outbox.log})"


def _later_than_all(outbox: Outbox, now: datetime) -> datetime:
    """``now``, or a moment after the newest journal, whose order names say even if the clock was set back."""
    latest = now
    for journal in outbox.pending():
        with suppress(ValueError):  # a folder of another origin
            stamp = datetime.strptime(journal.name.split("Z-")[0], _STAMP).replace(tzinfo=UTC)
            latest = max(latest, stamp + timedelta(microseconds=1))
    return latest


def _start_follower(journal: Journal, outbox: Outbox) -> subprocess.Popen[bytes]:
    top = str(Path(__file__).resolve().parents[2])
    with outbox.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "fedpipe.tracking", "follow", str(journal.path)],
            env=os.environ | {"PYTHONPATH": top, STORE: outbox.store},  # not in its command line, which all users see
            stdin=subprocess.DEVNULL,
            stdout=log,  # not the stage's: a follower must not keep `dvc repro | cat` open
            stderr=log,
            start_new_session=True,  # a Ctrl-C at the terminal is for the stage, and the follower reports it
        )


def _say(line: str) -> None:
    """One line to standard error, above a progress bar if there is one."""
    tqdm.write(line, file=sys.stderr)
