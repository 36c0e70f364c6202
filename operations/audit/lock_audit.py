"""What pip-audit knows of the packages of a lock."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedpipe.errors import PipelineError

PROGRAM = Path(".venv-audit/bin/pip-audit")
_MINUTES = 10


@dataclass(frozen=True)
class Vulnerability:
    """An advisory that concerns a package of a lock.

    Attributes:
      lock: The lock's file name.
      package: The package.
      version: Its pinned version.
      ids: The advisory's names; the first one is the service's own.
      fixed: The versions with a correction, the lowest first; none if no release has one.
      summary: The advisory in a sentence, as its authors wrote it.
    """

    lock: str
    package: str
    version: str
    ids: tuple[str, ...]
    fixed: tuple[str, ...]
    summary: str


def audit(lock: Path, service: str | None = None, program: Path = PROGRAM) -> list[Vulnerability]:
    """The published advisories that concern the packages of ``lock``, in the order of the lock.

    Args:
      lock: A lock with hashes.
      service: The address of an OSV server; None for pip-audit's own choice, the package index.
      program: pip-audit.

    Raises:
      PipelineError: pip-audit failed, or its service did not answer for a package.
    """
    options = ["--require-hashes", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    options += ["--vulnerability-service", "osv", "--osv-url", service] if service else []
    command = [str(program), *options, "--requirement", str(lock)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60 * _MINUTES)
    except FileNotFoundError:
        raise PipelineError(f"{program} is missing: run `make audit`, which installs it") from None
    except subprocess.TimeoutExpired:
        raise PipelineError(f"pip-audit had no result for {lock} after {_MINUTES} minutes: run it again") from None
    try:
        dependencies = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        reason = next(reversed(done.stderr.strip().splitlines()), "it does not say why")
        raise PipelineError(f"pip-audit failed on {lock}: {reason}") from None
    _require_answers(lock, dependencies)
    return _distinct(
        Vulnerability(
            lock.name,
            dependency["name"],
            dependency["version"],
            (each["id"], *sorted(each["aliases"])),
            tuple(each["fix_versions"]),
            " ".join(each["description"].split()),
        )
        for dependency in dependencies
        for each in dependency["vulns"]
    )


def _require_answers(lock: Path, dependencies: Sequence[dict[str, Any]]) -> None:
    """pip-audit skips a package that its service does not know, and then reports that there is no advisory."""
    skipped = [dependency for dependency in dependencies if "skip_reason" in dependency]
    if skipped or not dependencies:
        names = ", ".join(dependency["name"] for dependency in skipped[:3])
        reason = f" ({skipped[0]['skip_reason']})" if skipped else ""
        raise PipelineError(
            f"{len(skipped)} of {len(dependencies)} packages of {lock} were not audited: {names or 'it has none'}"
            f"{reason}; run it where the advisories of the package index can be reached, or name an OSV server with "
            "--service"
        )


def _distinct(vulnerabilities: Any) -> list[Vulnerability]:
    """pip-audit lists some advisories twice, once by each of two databases."""
    kept: list[Vulnerability] = []
    for each in vulnerabilities:
        if not any(each.package == other.package and set(each.ids) & set(other.ids) for other in kept):
            kept.append(each)
    return kept
