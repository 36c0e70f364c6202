"""The job that fedpipe submits to NVIDIA FLARE: a folder with configurations, and no code."""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from fedpipe.links.flare.kit import DEAD_SECONDS, EXECUTOR, RELAY

NAME = "fedpipe"  # of the job
TASK = "fedpipe"
CONTENT, ABSENT = "content", "absent"  # keys of a task and its reply: bytes, or why there are none
LARGEST = 2**31 - 1  # bytes of a message
ALIVE = "fedpipe.alive"  # topic of the messages by which the server's job shows the sites' that it runs
ALIVE_SECONDS = 10.0
POLL_SECONDS = 0.05  # between two times that a site asks for its next task
_NOTICE_SECONDS = 5.0  # in which the server's job takes a site for dead that is reported so
_OLD_SECONDS = 60.0  # of a job's folder without a new line in its logs


def write_job(folder: Path, sites: Sequence[str], run: str) -> None:
    """Writes the job's folder anew.

    Args:
      folder: Where.
      sites: The names of the sites, all of which take part.
      run: Which run of the coordinator it belongs to; the relay names it.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "app/config").mkdir(parents=True)
    meta = {
        "name": NAME,
        "resource_spec": {},
        "min_clients": len(sites),
        "mandatory_clients": list(sites),
        "deploy_map": {"app": ["server", *sites]},
    }
    server = {
        "format_version": 2,
        "server": {"task_request_interval": POLL_SECONDS, "heart_beat_timeout": DEAD_SECONDS},
        "dead_client_grace_period": _NOTICE_SECONDS,
        "dead_client_check_lead_time": _NOTICE_SECONDS,
        "workflows": [{"id": "relay", "path": RELAY, "args": {"run": run, "sites": list(sites)}}],
    }
    client = {
        "format_version": 2,
        "default_task_fetch_interval": POLL_SECONDS,
        "executors": [{"tasks": [TASK], "executor": {"path": EXECUTOR, "args": {}}}],
    }
    contents = {"meta.json": meta, "app/config/config_fed_server.json": server}
    contents["app/config/config_fed_client.json"] = client
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def remove_old_jobs(kit: Path, current: str) -> None:
    """Removes the folders of our jobs that have ended; NVIDIA FLARE keeps them for ever.

    Args:
      kit: The folder of a site's or the server's kit.
      current: The id of the job that runs.
    """
    for meta in kit.glob("*/meta.json"):
        folder = meta.parent
        if folder.name != current and _is_ours(meta) and _age(folder) > _OLD_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def _is_ours(meta: Path) -> bool:
    try:
        return bool(json.loads(meta.read_text(encoding="utf-8")).get("name") == NAME)
    except (OSError, ValueError, AttributeError):
        return False


def _age(folder: Path) -> float:
    """Seconds since a file of the folder was written."""
    newest = max((file.stat().st_mtime for file in folder.rglob("*") if file.is_file()), default=0.0)
    return time.time() - newest
