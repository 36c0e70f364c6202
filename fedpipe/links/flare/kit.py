"""Kits of `nvflare provision`: what fedpipe changes in one's ``local`` folder, and refuses to work without.

| file of local/ | why |
| --- | --- |
| comm_config.json | the port between a site's two processes is on loopback in clear, open to all local users: mTLS |
| authorization.json | no code comes with jobs, and no console reads files at a site |
| resources.json | of classes, jobs name ours alone; logs stay; a dead site is noticed in half a minute, not in ten minutes; the server's jobs and snapshots are in its kit, not in a shared temporary folder |
"""  # noqa: E501 - a table

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fedpipe.atomic import write_text
from fedpipe.errors import PipelineError

RELAY = "fedpipe.links.flare.relay.Relay"
EXECUTOR = "fedpipe.links.flare.site_executor.SiteExecutor"
DEAD_SECONDS = 30
_ROLES = {"server": "fed_server.json", "site": "fed_client.json", "admin": "fed_admin.json"}
_SOCKETS = "fedpipe"  # the folder in a kit
_NOTHING_LOCAL = {"shell_commands": "none", "byoc": "none", "server-predeployed-flwr": "none"}
_AUTHORIZATION = {
    "format_version": "1.0",
    "permissions": {
        "project_admin": {
            "submit_job": "any",
            "clone_job": "none",
            "manage_job": "any",
            "download_job": "any",
            "view": "any",
            "operate": "any",
            **_NOTHING_LOCAL,
        },
        "org_admin": {
            "submit_job": "none",
            "clone_job": "none",
            "manage_job": "o:submitter",
            "download_job": "o:submitter",
            "view": "any",
            "operate": "o:site",
            **_NOTHING_LOCAL,
        },
        "lead": {
            "submit_job": "any",
            "clone_job": "none",
            "manage_job": "n:submitter",
            "download_job": "n:submitter",
            "view": "any",
            "operate": "o:site",
            **_NOTHING_LOCAL,
        },
        "member": {"view": "any", **_NOTHING_LOCAL},
    },
}
_CONNECTIONS = {
    "allow_adhoc_conns": False,
    "internal": {"scheme": "tcp", "resources": {"host": "localhost", "connection_security": "mtls"}},
}


def require_installed() -> None:
    """Checks that NVIDIA FLARE is in this environment.

    Raises:
      PipelineError: It is not.
    """
    if find_spec("nvflare") is None:
        raise PipelineError("NVIDIA FLARE is not installed: run `make flare-env`")


def role(kit: Path) -> str:
    """Whose kit it is: ``server``, ``site`` or ``admin``.

    Raises:
      PipelineError: The folder is no kit.
    """
    for name, file in _ROLES.items():
        if (kit / "startup" / file).is_file():
            return name
    raise PipelineError(
        f"{kit} is no kit of `nvflare provision`: it has none of startup/{', startup/'.join(_ROLES.values())}"
    )


def require_role(kit: Path, wanted: str) -> None:
    """Checks whose kit it is.

    Raises:
      PipelineError: It is another one's, or none.
    """
    if (is_of := role(kit)) != wanted:
        raise PipelineError(f"{kit} is a kit of NVIDIA FLARE for {_article(is_of)}, and not for {_article(wanted)}")


def site_name(kit: Path) -> str:
    """The name of the site whose kit it is.

    Raises:
      PipelineError: The folder is no kit of a site.
    """
    require_role(kit, "site")
    return str(_read(kit / "startup" / _ROLES["site"])["client"]["fqsn"])


def user_name(kit: Path) -> str:
    """The name of the user whose kit it is.

    Raises:
      PipelineError: The folder is no kit of a user.
    """
    require_role(kit, "admin")
    return str(_read(kit / "startup" / _ROLES["admin"])["admin"]["username"])


def site_socket(kit: Path) -> Path:
    """Where the site's process listens for the executor in the site's job process."""
    return kit / _SOCKETS / "site.sock"


def coordinator_socket(kit: Path) -> Path:
    """Where the coordinator's process listens for the relay in the server's job process."""
    return kit / _SOCKETS / "coordinator.sock"


def secure(kit: Path) -> list[Path]:
    """Changes what fedpipe does not work without; returns the files that it wrote.

    Raises:
      PipelineError: The folder is no kit, or a file of it is no JSON.
    """
    written = []
    for file, content in _insecure(kit).items():
        write_text(file, json.dumps(content, indent=2) + "\n")
        written.append(file)
    for key in _open_keys(kit):
        key.chmod(0o600)
        written.append(key)
    return written


def require_secure(kit: Path) -> None:
    """Checks that a kit is as `secure` leaves it.

    Raises:
      PipelineError: It is not, or it is no kit.
    """
    files = [*_insecure(kit), *_open_keys(kit)]
    if files:
        names = ", ".join(str(file.relative_to(kit)) for file in files)
        raise PipelineError(
            f"the kit {kit} is not safe to use ({names}): run `make flare-kit KIT={kit}`, then start NVIDIA FLARE anew"
        )


def require_encrypted() -> None:
    """Checks, in a job process of NVIDIA FLARE, that its connection to the process that started it has mTLS.

    Raises:
      PipelineError: It has not, whatever the files say now.
    """
    arguments = dict(zip(sys.argv, sys.argv[1:], strict=False))
    if arguments.get("--parent_conn_sec") != "mtls":
        raise PipelineError(
            "the connection inside of this machine has no mTLS: run `make flare-kit`, then start NVIDIA FLARE anew"
        )


def _insecure(kit: Path) -> dict[Path, Any]:
    """The files of ``local`` that are not as they should be, and what they should be."""
    if (whose := role(kit)) == "admin":
        return {}
    local = kit / "local"
    wanted = {
        "comm_config.json": _CONNECTIONS,
        "authorization.json": _AUTHORIZATION,
        "resources.json": _resources(kit, whose),
    }
    files = {local / name: content for name, content in wanted.items()}
    return {file: content for file, content in files.items() if not file.exists() or _read(file) != content}


def _resources(kit: Path, whose: str) -> dict[str, Any]:
    file = kit / "local/resources.json"
    content = _read(file if file.exists() else kit / "local/resources.json.default")
    content["class_list_enforcement_mode"] = "enforce"
    content["class_allow_list"] = [RELAY if whose == "server" else EXECUTOR]
    content["allow_log_streaming"] = False
    content["components"] = [each for each in content["components"] if each["id"] != "site_log_streamer"]
    if whose == "server":
        for server in content["servers"]:
            server["heart_beat_timeout"] = DEAD_SECONDS
        folder = kit.resolve()
        content["snapshot_persistor"]["args"]["storage"]["args"]["root_dir"] = str(folder / "snapshots")
        for component in content["components"]:
            if component["id"] == "job_manager":
                component["args"]["uri_root"] = str(folder / "jobs")
    return content


def _open_keys(kit: Path) -> list[Path]:
    """Private keys that other users can read."""
    return [key for key in sorted((kit / "startup").glob("*.key")) if key.stat().st_mode & 0o077]


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PipelineError(f"{file} cannot be read ({error}): make the kit anew with `nvflare provision`") from None


def _article(role: str) -> str:
    return {"server": "the server", "site": "a site", "admin": "a user"}[role]
