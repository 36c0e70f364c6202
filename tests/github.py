"""A stand-in for GitHub's command `gh`: it keeps its calls, and answers from files beside it."""

import os
from pathlib import Path

from tests import ROOT

# A login and an open pull request are files beside it; a state is a folder of the run's number.
GH = """#!/bin/sh
cd "$(dirname "$0")"
echo "$@" >>calls
case "$1 $2" in
    "auth status") test -e login ;;
    "pr list") cat open 2>/dev/null || true ;;
    "pr create") echo https://github.example/pull/1 ;;
    "run list") cat run 2>/dev/null || true ;;
    "api "*/actions/artifacts?name=retrain-state*) cat artifacts 2>/dev/null || true ;;
    "run download") test -d "state-$3" && cd "$OLDPWD" && mkdir -p "$7" && cp -r "$(dirname "$0")/state-$3/." "$7" ;;
    "auth git-credential") echo username=x-access-token; echo "password=$GH_TOKEN" ;;
esac
"""


def stand_in(folder: Path) -> Path:
    """Puts the stand-in into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gh").write_text(GH)
    (folder / "gh").chmod(0o755)
    return folder


def environment(gh: Path) -> dict[str, str]:
    """An environment with the stand-in, and without anybody's git configuration."""
    nobody = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "HOME": str(gh)}
    return os.environ | nobody | {"PATH": f"{gh}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def calls(gh: Path, *words: str) -> list[str]:
    """The calls that begin with ``words``."""
    path = gh / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if line.startswith(" ".join(words))]
