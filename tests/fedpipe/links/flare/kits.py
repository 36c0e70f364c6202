"""Kits as `nvflare provision` 2.9 makes them, with all that fedpipe reads or changes of one."""

import json
from pathlib import Path
from typing import Any

_STARTUP: dict[str, tuple[str, Any]] = {
    "server": ("fed_server.json", {"servers": []}),
    "site": ("fed_client.json", {"client": {"fqsn": "site-1"}}),
    "admin": ("fed_admin.json", {"admin": {"username": "anna@example.org"}}),
}
_RESOURCES: dict[str, Any] = {
    "class_list_enforcement_mode": "enforce",
    "class_allow_list": ["nvflare.app_common.executors", "nvflare.app_common.workflows"],
    "allow_log_streaming": True,
    "servers": [{"admin_storage": "transfer", "heart_beat_timeout": 600}],
    "snapshot_persistor": {"args": {"storage": {"args": {"root_dir": "/shared/snapshot-storage"}}}},
    "components": [
        {"id": "job_manager", "args": {"uri_root": "/shared/jobs-storage"}},
        {"id": "site_log_streamer", "args": {}},
        {"id": "process_launcher", "args": {}},
    ],
}


def make_kit(folder: Path, role: str) -> Path:
    """A kit of the ``server``, of a ``site`` called site-1, or of an ``admin``."""
    name, content = _STARTUP[role]
    for part in ("startup", "local"):
        (folder / part).mkdir(parents=True)
    (folder / "startup" / name).write_text(json.dumps(content))
    (folder / "startup/client.key").write_text("key")
    (folder / "startup/client.key").chmod(0o644)
    (folder / "local/resources.json.default").write_text(json.dumps(_RESOURCES))
    return folder
