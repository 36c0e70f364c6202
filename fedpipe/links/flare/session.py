"""``python -m fedpipe.links.flare.session KIT JOB SECONDS SITE...``: submits a job, and watches it.

It is a process of its own, for NVIDIA FLARE's client starts threads and changes logging. It writes a JSON a line to
its standard output, and ends when its standard input does: then the job is over, or is aborted and removed.
"""

import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from nvflare.fuel.flare_api.api_spec import NoConnection
from nvflare.fuel.flare_api.flare_api import Session, new_secure_session

from fedpipe.links.flare.job import NAME
from fedpipe.links.flare.kit import user_name

_LOOK_SECONDS = 0.5
_END_SECONDS = 10.0  # that the job may take to end by itself
_OVER = ("FINISHED", "ABANDONED", "FAILED")


def main(kit: Path, job: Path, seconds: float, sites: list[str]) -> None:
    """Submits the job when all sites are there, and watches it until standard input ends."""
    output = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what the library prints

    def report(**line: Any) -> None:
        output.write(json.dumps(line) + "\n")

    ended = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    try:
        session = _logged_in(kit, time.monotonic() + seconds, ended)
        try:
            _run(session, job, sites, report, ended)
        finally:
            session.close()
    except Exception as error:  # noqa: BLE001 - of any kind; the parent tells it
        report(error=f"{type(error).__name__}: {error}")
    output.close()
    os._exit(0)  # the library's threads would stay


def _logged_in(kit: Path, until: float, ended: threading.Event) -> Session:
    while True:
        try:
            return new_secure_session(user_name(kit), str(kit), timeout=5.0)
        except NoConnection:
            if time.monotonic() > until or ended.is_set():
                raise
            time.sleep(_LOOK_SECONDS)


def _run(session: Session, job: Path, sites: list[str], report: Any, ended: threading.Event) -> None:
    _remove_old(session)
    absent: list[str] | None = None
    while absent != []:
        here = {client.name for client in session.get_system_info().client_info}
        if (now := [site for site in sites if site not in here]) != absent:
            absent = now
            report(absent=absent)
        if absent and ended.wait(_LOOK_SECONDS):
            return
    number = session.submit_job(str(job))
    report(submitted=number)
    status = _watched(session, number, ended, float("inf"))
    if not ended.is_set():
        report(over=status)
        return
    if not _watched(session, number, threading.Event(), _END_SECONDS):
        with contextlib.suppress(Exception):  # it raises NoConnection after it has aborted
            session.abort_job(number)
    with contextlib.suppress(Exception):  # the next session removes it
        session.delete_job(number)


def _watched(session: Session, number: str, ended: threading.Event, seconds: float) -> str:
    """The status of a job that is over; empty if it still runs when ``ended`` is set, or after ``seconds``."""
    until = time.monotonic() + seconds
    while not ended.is_set() and time.monotonic() < until:
        status = str(session.get_job_meta(number).get("status", ""))
        if status.startswith(_OVER):
            return status
        ended.wait(_LOOK_SECONDS)
    return ""


def _remove_old(session: Session) -> None:
    """Removes this project's finished jobs."""
    for meta in session.list_jobs():
        if meta.get("job_name") == NAME and str(meta.get("status", "")).startswith(_OVER):
            with contextlib.suppress(Exception):  # its server may just write it
                session.delete_job(meta["job_id"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4:])
