"""GitHub through its command `gh`."""

import json
import os
import re
import shutil
import subprocess
from typing import Any

from fedpipe.errors import PipelineError
from operations import commands

_REMOTE = re.compile(
    r"^(?:https://|ssh://git@|git@)(?:[^/@]*@)?github\.com[:/](?P<repository>[^/]+/[^/]+?)(?:\.git)?/?$"
)


def is_available() -> bool:
    """Whether `gh` is here, with a login or GH_TOKEN."""
    if not shutil.which("gh"):
        return False
    return subprocess.run(["gh", "auth", "status"], capture_output=True, check=False).returncode == 0


def gh(*arguments: str, stdin: str | None = None) -> str:
    """Runs `gh` and returns its standard output.

    Raises:
      PipelineError: It is not installed, or it failed; the message has the first line of its error.
    """
    try:
        done = subprocess.run(["gh", *arguments], capture_output=True, text=True, input=stdin, check=False)
    except FileNotFoundError:
        raise PipelineError("GitHub's command `gh` is not installed: install it (https://cli.github.com)") from None
    if done.returncode:
        reason = next(iter(done.stderr.strip().splitlines()), "it does not say why")
        raise PipelineError(f"`gh {' '.join(arguments[:2])}` failed: {reason}")
    return done.stdout


def ask(*arguments: str) -> Any:
    """As `gh`, for an answer in JSON."""
    return json.loads(gh(*arguments) or "null")


def ensure_label(name: str, colour: str, description: str) -> None:
    """Makes a label, or puts its colour and description right: `gh` rejects labels that the repository has not."""
    gh("label", "create", name, "--force", "--color", colour, "--description", description)


def repository_url(remote: str) -> str | None:
    """The page of the repository on GitHub; None where the remote is elsewhere.

    Args:
      remote: A git remote, asked where no workflow says which repository it runs in.
    """
    server, repository = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
    if server and repository:
        return f"{server}/{repository}"
    try:
        match = _REMOTE.match(commands.git("remote", "get-url", remote).strip())
    except PipelineError:
        return None
    return f"https://github.com/{match['repository']}" if match else None
