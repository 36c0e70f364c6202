"""Starts a kit of NVIDIA FLARE with its own start.sh, in the environment that fedpipe's part of a job needs."""

import os
import subprocess
import sys
from pathlib import Path

from fedpipe.links.flare import kit as kits

_PROJECT = Path(__file__).resolve().parents[3]


def environment() -> dict[str, str]:
    """The variables with which start.sh finds this Python, and job processes find fedpipe."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return own | {"PATH": path, "PYTHONPATH": str(_PROJECT)}


def start(kit: Path) -> None:
    """Runs the kit's start.sh, which starts a process of its own and returns.

    Raises:
      PipelineError: NVIDIA FLARE is not installed, or the kit is not safe to use.
    """
    kits.require_installed()
    kits.require_secure(kit)
    with (kit / "start.log").open("ab") as log:
        subprocess.run(
            [kit / "startup/start.sh"],
            cwd=kit,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            check=True,
        )
