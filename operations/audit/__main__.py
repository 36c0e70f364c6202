"""``python -m operations.audit``, or ``make audit``: published advisories that concern pinned packages.

Audits each lock with pip-audit and compares with operations/audit/advisories.yaml. Exit code 1 if there is news: an
advisory that is not listed there, a listed one whose package has another version, or one that is over.
"""

import argparse
import datetime
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fedpipe.command_line import make_command
from fedpipe.errors import PipelineError, run_stage
from operations import commands, github
from operations.audit import advisories
from operations.audit.lock_audit import audit
from operations.audit.news import News, news
from operations.retrain.outcome import iso_week, run_url
from operations.tell import issue

TOPIC = issue.Topic(
    "fedpipe-audit",
    "d93f0b",
    "A published advisory concerns a pinned package (make audit)",
    "Advisories for the packages pinned on {branch}",
    "The weekly audit edits this text, comments on what is new, and closes the issue when every advisory is known "
    "(docs/security.md).",
)


def main() -> None:
    """Audits, prints, and keeps the issue.

    Raises:
      PipelineError: There is news, or the audit failed.
    """
    parser = argparse.ArgumentParser(description=__doc__, **make_command("audit"))
    parser.add_argument("--issue", action="store_true", help="keep a tracking issue on GitHub, as `make tell` does")
    parser.add_argument("--service", metavar="URL", help="the address of an OSV server, in place of the package index")
    options = parser.parse_args()
    known, audited = advisories.load(), locks()
    reported = [each for lock in audited for each in audit(lock, options.service)]
    items = news(known, reported)
    for item in items:
        _say(f"{item.heading}: {item.text}")
    _say(f"{len(audited)} locks, {len(reported)} advisories, {len(known)} in the list")
    if options.issue:
        _keep_issue(items)
    if items:
        raise PipelineError(f"{len(items)} of the lines above need a look: docs/security.md says how to go on")


def locks(folder: Path = Path()) -> list[Path]:
    """The project's locks: files with a hash for each package."""
    return sorted(path for path in folder.glob("*.lock") if "--hash=sha256:" in path.read_text(encoding="utf-8"))


def _keep_issue(items: Sequence[News]) -> None:
    if not github.is_available():
        raise PipelineError(
            "--issue needs GitHub's command `gh` with a login (or GH_TOKEN): log in with `gh auth login`"
        )
    branch = os.environ.get("GITHUB_REF_NAME") or commands.git("rev-parse", "--abbrev-ref", "HEAD").strip()
    run = issue.Run(branch, iso_week(datetime.datetime.now(datetime.UTC).date()), run_url())
    if address := issue.update(TOPIC, run, items, "no news"):
        _say(f"tracking issue {address}")


def _say(line: str) -> None:
    print(f"audit: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_stage(main)
