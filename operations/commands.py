"""DVC and git, as commands of this project call them: with an error in one sentence, and this environment's DVC."""

import subprocess
import sys
from collections.abc import Mapping

from fedpipe.errors import PipelineError


def dvc(*arguments: str) -> str:
    """Runs ``dvc`` with ``arguments`` and returns what it wrote to standard output.

    Without ``--quiet``: DVC would keep its errors to itself, too.

    Raises:
      PipelineError: It failed; the message ends with its own error.
    """
    return _run("dvc", [sys.executable, "-m", "dvc", *arguments])


def git(*arguments: str, environment: Mapping[str, str] | None = None, stdin: str | None = None) -> str:
    """Runs ``git``, as `dvc`."""
    return _run("git", ["git", *arguments], environment, stdin)


def _run(name: str, command: list[str], environment: Mapping[str, str] | None = None, stdin: str | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=environment, input=stdin, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        # Below its error, DVC says where to find help.
        errors = [line for line in said if line.startswith("ERROR")] or said
        told = " ".join(command[command.index("dvc") :] if "dvc" in command else command)
        raise PipelineError(f"`{told}` failed: {errors[-1] if errors else f'exit code {done.returncode}'}")
    return done.stdout
