"""What there is to tell of a retraining: one finding for each thing that a person may want to know."""

import datetime
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from fedpipe.config.tell import News, Tell
from operations.retrain.outcome import Outcome
from operations.tell.text import code, figures

_QUIET_DAYS = 60  # after which GitHub disables the schedules of a public repository
HEADINGS: dict[News, str] = {
    "failed": "Failed",
    "unfinished": "Unfinished",
    "rejected": "Rejected batches",
    "held": "Batches on hold",
    "drift": "Drift",
    "kept": "Champion kept",
    "proposed": "Proposed",
    "promoted": "Promoted",
    "no_promotion": "No promotion",
    "expiry": "About to expire",
}


@dataclass(frozen=True)
class Finding:
    """Something to tell.

    Attributes:
      kind: One of the news that params.yaml names.
      subject: Tells it from others of its kind, and is the same as long as it is the same thing.
      text: A sentence in Markdown; whatever clients wrote is in backticks.
    """

    kind: News
    subject: str
    text: str

    @property
    def heading(self) -> str:
        """The heading under which findings of its kind are listed."""
        return HEADINGS[self.kind]

    @property
    def mark(self) -> str:
        """A digest of kind and subject, for a mark in a text that everybody can read."""
        return hashlib.sha256(f"{self.kind}\n{self.subject}".encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Surroundings:
    """What the repository says beside the outcome; None where it is not known.

    Attributes:
      job: The job's status until now: success, failure or cancelled.
      champion_since: When the branch got the marker of its present champion.
      state_expires: When the newest artifact that holds the state expires.
      last_push: When somebody pushed to a public repository last.
    """

    job: str | None = None
    champion_since: datetime.date | None = None
    state_expires: datetime.date | None = None
    last_push: datetime.date | None = None


def findings(
    outcome: Outcome | None, around: Surroundings, settings: Tell, week: str, today: datetime.date
) -> list[Finding]:
    """All there is to tell, most urgent first.

    Args:
      outcome: What the retraining wrote down; None if it did not come to that.
      around: What the repository says.
      settings: Section ``tell`` of params.yaml.
      week: The ISO week.
      today: The day.
    """
    listed = [*_of_the_job(outcome, around.job, week)]
    if outcome is not None:
        listed += _of_batches(outcome)
        listed += _of_the_model(outcome)
    promoted = outcome is not None and outcome.status == "promoted"
    return [*listed, *_of_time(around, settings, today, promoted)]


def _of_the_job(outcome: Outcome | None, job: str | None, week: str) -> Iterator[Finding]:
    if outcome is None:
        yield Finding("failed", week, "The job ended before it wrote down what came of it; its log has the reason.")
    elif outcome.status == "failed":
        yield Finding("failed", week, f"The retraining failed: {code(outcome.reason)}")
    elif job == "failure":
        text = f"The retraining ended ({outcome.status.replace('_', ' ')}), but another step of the job failed."
        yield Finding("failed", week, f"{text} Its log has the reason; start the run again when that is put right.")
    elif job == "cancelled":
        yield Finding("failed", week, "The job was cancelled, by a person or by its time limit.")


def _of_batches(outcome: Outcome) -> Iterator[Finding]:
    for name, reason in sorted(outcome.rejected.items()):
        yield Finding("rejected", f"{name}\n{reason}", f"{code(name)}: {code(reason)}")
    for name, reason in sorted(outcome.held.items()):
        yield Finding("held", name, f"{code(name)}: {code(reason)}")
    for sentence in outcome.drifted:
        yield Finding("drift", f"{outcome.week}\n{sentence}", code(sentence))


def _of_the_model(outcome: Outcome) -> Iterator[Finding]:
    measured = figures(outcome.accuracy, outcome.champion_accuracy)
    version = f"version {outcome.version}" if outcome.version else ""
    subject = f"{outcome.week}\n{outcome.weights_sha256}"
    known = ", ".join(filter(None, (version, measured)))
    details = f" ({known})" if known else ""
    if outcome.status == "kept":
        yield Finding("kept", subject, f"The champion stays{details}: {code(outcome.reason)}")
    elif outcome.status == "proposed":
        text = f"A model is better than the champion{details}; {_way_to_champion(outcome)}."
        yield Finding("proposed", subject, text)
    elif outcome.status == "promoted" and outcome.was_champion:
        if outcome.branch:  # else HEAD has it
            where = f"[pull request]({outcome.pull_request})" if outcome.pull_request else code(outcome.branch)
            text = f"The champion{details} is not merged yet: merge {where}, so that the next retraining builds on it."
            yield Finding("proposed", f"champion {outcome.weights_sha256}", text)
    elif outcome.status == "promoted":
        yield Finding("promoted", subject, f"A model became champion{details}.")
    elif outcome.status == "unfinished":
        yield Finding("unfinished", outcome.week, f"The time limit came first: {code(outcome.reason)}")


def _way_to_champion(outcome: Outcome) -> str:
    if outcome.pull_request:
        return f"merging its [pull request]({outcome.pull_request}) promotes it"
    if outcome.branch:
        return f"no pull request is open: merging the branch {code(outcome.branch)} promotes it"
    return "it is not published, so no merge promotes it: the log of `make publish` says why"


def _of_time(around: Surroundings, settings: Tell, today: datetime.date, promoted: bool) -> Iterator[Finding]:
    if around.champion_since and not promoted:
        weeks = (today - around.champion_since).days // 7
        if weeks >= settings.weeks_without_promotion:
            text = f"No model was promoted for {weeks} weeks; the champion is of {around.champion_since}."
            yield Finding("no_promotion", str(around.champion_since), text)
    if around.state_expires:
        left = (around.state_expires - today).days
        if left <= settings.days_before_expiry:
            text = (
                f"The artifact that holds model registry and batches expires in {left} days, on {around.state_expires}."
            )
            yield Finding("expiry", f"state {around.state_expires}", f"{text} A run that keeps its state renews it.")
    if around.last_push:
        quiet = (today - around.last_push).days
        if quiet >= _QUIET_DAYS - settings.days_before_expiry:
            text = f"Nobody pushed for {quiet} days, and GitHub disables the schedule of a public repository after"
            yield Finding("expiry", f"push {around.last_push}", f"{text} {_QUIET_DAYS}: merge something, or push.")
