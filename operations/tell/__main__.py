"""``python -m operations.tell``, or ``make tell``: reports the result of a retraining, where people see it.

On GitHub a tracking issue; with FEDPIPE_WEBHOOK a message in a chat; the terminal in any case. Section `tell` of
params.yaml says what goes where. The last step of the workflow, also of one that failed.
"""

import datetime
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import layout
from fedpipe import params
from fedpipe.command_line import without_arguments
from fedpipe.config import Tell
from fedpipe.errors import PipelineError, run_stage
from operations import commands, github
from operations.retrain.destination import experiment
from operations.retrain.outcome import OUTCOME, Outcome, iso_week, run_url
from operations.tell import issue, webhook
from operations.tell.findings import Finding, findings
from operations.tell.pull_request import result
from operations.tell.surroundings import look
from operations.tell.text import for_chat

# Where params.yaml cannot be read, which may be why the week failed.
_WITHOUT_PARAMS = Tell(issue_on=["failed"], webhook_on=["failed"], weeks_without_promotion=10**6, days_before_expiry=1)


def main() -> None:
    """Reads the outcome and tells it.

    Raises:
      PipelineError: GitHub did not take the issue.
    """
    today = datetime.datetime.now(datetime.UTC).date()
    outcome, settings = _outcome(), _settings()
    week = outcome.week if outcome else iso_week(today)
    run = issue.Run(_branch(), week, (outcome.run_url if outcome else None) or run_url())
    has_github = github.is_available()
    news = findings(outcome, look(run.branch, has_github), settings, week, today)
    came = result(outcome) if outcome else "failed"
    _say(f"{week}: {came}")
    for finding in news:
        _say(f"{finding.kind}: {finding.text}")
    if outcome is None:
        _tell_job(news)
    try:
        in_issue = [each for each in news if each.kind in settings.issue_on]
        address = _update_issue(run, has_github, in_issue, came, _looked_at_batches(outcome))
        trouble = None
    except PipelineError as error:
        address, trouble = None, error
    _send(run, [each for each in news if each.kind in settings.webhook_on], came, address, outcome)
    if trouble:
        raise PipelineError(
            f"the tracking issue could not be kept: {trouble}; the workflow's job needs the permission `issues: "
            "write`, and the repository its issues (or set 'tell.issue_on' to [] in params.yaml)"
        )


def _outcome() -> Outcome | None:
    if not OUTCOME.exists():
        return None
    try:
        return Outcome.read()
    except PipelineError as error:
        _say(f"warning: {error}")
        return None


def _looked_at_batches(outcome: Outcome | None) -> bool:
    """Whether the retraining came so far that a batch which it does not name is no matter any more."""
    return outcome is not None and outcome.looked_at_batches and outcome.status not in ("failed", "unfinished")


def _settings() -> Tell:
    try:
        return params.load(Tell, layout.PARAMS)
    except PipelineError as error:
        _say(f"warning: {error}; only a failure is reported")
        return _WITHOUT_PARAMS


def _branch() -> str:
    if name := os.environ.get("GITHUB_REF_NAME"):
        return name
    try:
        return commands.git("rev-parse", "--abbrev-ref", "HEAD").strip()
    except PipelineError:
        return "HEAD"


def _update_issue(run: issue.Run, has_github: bool, news: Sequence[Finding], came: str, knows_all: bool) -> str | None:
    """The issue's address, if there is an open one."""
    if name := experiment():
        _say(f"an experiment ({name}), and the tracking issue is of the weekly retraining")
        return None
    if not has_github:
        _say("no GitHub command `gh` with a login (or GH_TOKEN) here, so there is no tracking issue")
        return None
    address = issue.update(issue.RETRAINING, run, news, came, knows_all)
    if address:
        _say(f"tracking issue {address}")
    return address


def _send(run: issue.Run, news: Sequence[Finding], came: str, address: str | None, outcome: Outcome | None) -> None:
    """Sends a message if there is a webhook and something for it, and no experiment; a failure is a warning."""
    if experiment() or not webhook.address() or not news:
        return
    places = [outcome.pull_request if outcome else None, address, run.url]
    lines = [f"Retraining of {run.branch}, {run.week}: {came}", *(f"- {finding.text}" for finding in news)]
    trouble = webhook.send(for_chat("\n".join([*lines, *filter(None, places)])))
    _say(f"warning: no message to the chat: {trouble}" if trouble else "message to the chat sent")


def _tell_job(news: Sequence[Finding]) -> None:
    """A job that died has no summary of its own."""
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(path).open("a", encoding="utf-8") as summary:
            summary.write(f"{issue.listed(news)}\n")


def _say(line: str) -> None:
    print(f"tell: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_stage(without_arguments(main, "make tell"))
