"""Delivery of journals from the outbox to a store: each event once, even if processes are killed or the store is down.

mlflow_store.py implements the `Store` of this module for MLflow. An event may be logged twice (a follower killed
between logging and remembering), so a store's operations must be idempotent.
"""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Protocol

from fedpipe.errors import PipelineError
from fedpipe.tracking import run_events
from fedpipe.tracking.outbox import Delivery, Journal, Outbox, journals_in, sweep
from fedpipe.tracking.run_events import Event

_POLL_SECONDS = 0.3
_SAMPLE_SECONDS = 2.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 20.0
_PATIENCE_SECONDS = 3.0  # how long to retry when the run has ended and the store cannot be reached
_OUTLIVES_SECONDS = 15.0  # a follower ends at the latest this long after its stage


class Unreachable(Exception):
    """The store does not work now and may later; the text is the reason.

    Attributes:
      predicate: A predicate for messages that begin with the store's address, such as "cannot be reached (timeout)".
      remedy: The remedy, for a person.
    """

    def __init__(
        self, reason: str, predicate: str = "", remedy: str = "start it, or set MLFLOW_TRACKING_URI to where it is"
    ) -> None:
        super().__init__(reason)
        self.predicate, self.remedy = predicate or f"cannot be reached ({reason})", remedy


class Store(Protocol):
    """Where runs are logged. Every method raises `Unreachable`, or PipelineError if the store refuses."""

    def run_of_journal(self, journal: str, experiment: str) -> str | None:
        """The id of the run made for the journal of this name."""

    def run_of_weights(self, sha256: str, experiment: str, dvc_experiment: str = "") -> str | None:
        """The id of the newest run that trained these weights, a finished one before others.

        Only runs of ``dvc_experiment`` count, unless it is empty.
        """

    def create_run(self, journal: str, start: Event) -> str:
        """Makes the run for a journal and returns its id."""

    def run_name(self, run_id: str) -> str:
        """The run's name."""

    def log(self, run_id: str, event: Event, folder: Path) -> None:
        """Logs all that ``event`` holds; paths in it are below ``folder``."""

    def last_step(self, run_id: str, metric: str) -> int:
        """The highest step for which the run has a metric; -1 if there is none."""

    def machine_metrics(self) -> dict[str, float]:
        """The machine's load now: CPU, memory, disk, network."""


def ship(journal: Journal, store: Store) -> Delivery:
    """Logs the new events of ``journal``.

    Returns:
      How far it came; ``done`` if nothing more will come.

    Raises:
      Unreachable: The store does not answer; the logged events are remembered.
      PipelineError: The store refuses, or the journal is damaged.
    """
    is_complete = not journal.is_written()  # first, so that all that a dead writer wrote is read
    delivery = journal.delivery()
    for event, offset in journal.events(delivery.offset):
        if not delivery.run_id:
            delivery.run_id = _find_run(journal, event, store)
            delivery.run_name = store.run_name(delivery.run_id)
            # Rounds are logged in their order, so a run that has n of them has the first n.
            delivery.rounds_before = store.last_step(delivery.run_id, run_events.ROUND_METRIC) if "run" in event else 0
        if event["event"] != "metrics" or event["step"] > delivery.rounds_before:
            store.log(delivery.run_id, event, journal.path)
        delivery.offset, delivery.done, delivery.trouble = offset, event["event"] == "end", ""
        journal.save(delivery)
    if is_complete and not delivery.done:
        if delivery.run_id:  # else a power cut took even the first event
            store.log(delivery.run_id, _killed(journal), journal.path)
        delivery.done, delivery.trouble = True, ""
        journal.save(delivery)
    return delivery


def _find_run(journal: Journal, first: Event, store: Store) -> str:
    """The run that ``journal`` is about, made if need be."""
    name = first.get("run", journal.name)
    own = store.run_of_journal(name, first["experiment"])
    if first["event"] == "start":
        return own or store.create_run(name, first)
    # A run of the evaluation's own is one whose rebuilding was cut short: do it again.
    trained = (
        None if own else store.run_of_weights(first["sha256"], first["experiment"], first.get("dvc_experiment", ""))
    )
    return trained or _rebuild(journal, own, store)


def _rebuild(journal: Journal, run_id: str | None, store: Store) -> str:
    """Logs the training that an evaluation carries with it."""
    events = [event for event, _ in journal.events(file="rebuild.jsonl")]
    run_id = run_id or store.create_run(journal.name, events[0])
    for event in events:
        store.log(run_id, event, journal.path)
    return run_id


def _killed(journal: Journal) -> Event:
    """The end of a run whose writer could not write one, at the time of its last sign of life."""
    last = [event["time"] for event, _ in journal.events()][-1]
    return run_events.end("KILLED", "the process was killed") | {"time": last}


def deliver_finished(journal: Journal, store: Store) -> Delivery | None:
    """Logs all of a journal whose writer is gone, and removes it; waits while another process does so.

    Returns:
      The result; None if another process delivered it.

    Raises:
      Unreachable, PipelineError: As `ship`.
    """
    while True:
        try:
            with journal.delivering() as is_mine:
                if is_mine:
                    delivery = ship(journal, store)
                    journal.remove()
                    return delivery
        except FileNotFoundError:
            if journal.path.exists():
                raise
            return None
        time.sleep(_POLL_SECONDS)


def follow(path: Path, connect: Callable[[], Store]) -> None:
    """Delivers one journal while it is written, and before it the older ones: a training comes before its evaluation.

    Ends when all is delivered, when the store refuses, some seconds after the writer's end if the store cannot be
    reached, and in any case soon after the writer's process is gone.
    """
    journal = Journal(path)
    Thread(target=_end_soon_after_writer, args=(journal,), daemon=True).start()
    with journal.delivering() as is_mine:
        if not is_mine:
            return
        store, samples, retry = connect(), _Samples(), _Retry(journal)
        sweep(path.parent)
        while True:
            try:
                _deliver_older(journal, store)
                delivery = ship(journal, store)
                samples.log(delivery, store)
            except Unreachable as error:
                if not retry.pause_after(error.predicate):
                    return
            except PipelineError as error:
                _note(journal, f"did not take the run ({error})")
                return
            else:
                if delivery.done:
                    break
                retry.reset()
                time.sleep(_POLL_SECONDS)
            if journal.delivery().run_id:
                with suppress(Unreachable):  # noted above
                    samples.take(store)
    if not journal.is_written():  # else the writer removes it, once it has read the result
        journal.remove()


class _Retry:
    """Back-off while the store cannot be reached."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._give_up: float | None = None
        self.reset()

    def reset(self) -> None:
        """The store answered."""
        self._pause = _FIRST_PAUSE_SECONDS

    def pause_after(self, trouble: str) -> bool:
        """Notes the trouble and waits, but wakes at the run's end; False when it is time to give up."""
        _note(self._journal, trouble)
        was_ended = self._journal.is_ended()
        if was_ended:
            self._give_up = self._give_up or time.monotonic() + _PATIENCE_SECONDS
            if time.monotonic() > self._give_up:
                return False
        until = time.monotonic() + (_FIRST_PAUSE_SECONDS if was_ended else self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        while time.monotonic() < until and self._journal.is_ended() == was_ended:
            time.sleep(_POLL_SECONDS)
        return True


class _Samples:
    """The machine's load, one sample every two seconds, kept until it is logged."""

    def __init__(self) -> None:
        self._due = 0.0
        self._step = -1  # not known
        self._waiting: list[Event] = []

    def take(self, store: Store) -> None:
        """Takes a sample if it is time."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + _SAMPLE_SECONDS
            self._waiting.append(run_events.round_metrics(0, store.machine_metrics()))

    def log(self, delivery: Delivery, store: Store) -> None:
        """Logs the samples to the run, after those that earlier processes took."""
        if self._waiting and self._step < 0:
            self._step = store.last_step(delivery.run_id, next(iter(self._waiting[0]["metrics"]))) + 1
        while self._waiting:
            store.log(delivery.run_id, self._waiting[0] | {"step": self._step}, Path())
            self._waiting.pop(0)
            self._step += 1


def _deliver_older(journal: Journal, store: Store) -> None:
    for older in journals_in(journal.path.parent):
        if older.name >= journal.name:
            return
        try:
            if not older.is_written():
                deliver_finished(older, store)
        except PipelineError as error:
            # One that is refused must not keep the others waiting; `make sync` names it.
            print(f"{older.path}: {error}", file=sys.stderr)


def _note(journal: Journal, trouble: str) -> None:
    """Reports the trouble to the writer and the log."""
    delivery = journal.delivery()
    delivery.trouble = trouble
    journal.save(delivery)
    print(f"{journal.name}: {trouble}", file=sys.stderr, flush=True)


def _end_soon_after_writer(journal: Journal) -> None:
    """Ends this process, wherever it hangs, when the writer has been gone for a while; the rest stays pending."""
    while journal.is_written():
        time.sleep(_POLL_SECONDS)
    time.sleep(_OUTLIVES_SECONDS)
    os._exit(1)


def sync(outbox: Outbox, connect: Callable[[], Store]) -> None:
    """Delivers everything in the outbox, and reports it.

    Raises:
      PipelineError: The store cannot be reached, or refused something; the rest was delivered.
    """
    outbox.sweep()
    journals = outbox.pending()
    if not journals:
        print(f"nothing to log: {outbox.shown_store} has every run")
        return
    store, refused = connect(), []
    for position, journal in enumerate(journals):
        if journal.is_written():
            print(f"{journal.name} is still being written, and logged as it is")
            continue
        try:
            delivery = deliver_finished(journal, store)
        except Unreachable as error:
            raise PipelineError(
                f"{outbox.shown_store} {error.predicate}; {len(journals) - position} of {len(journals)} journals stay "
                f"in {outbox.folder}; {error.remedy}"
            ) from None
        except PipelineError as error:
            refused.append(f"{journal.path} was not taken: {error}")
            continue
        if delivery and delivery.run_id:  # a journal without an event is of a stage that was killed
            print(f"logged {journal.name} to run {delivery.run_name} in {outbox.shown_store}")
    if refused:
        raise PipelineError("; ".join(refused))
