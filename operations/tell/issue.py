"""A tracking issue: one per topic and branch, with a label, and a mark in its text that GitHub does not show.

Its text says what is the matter now. A comment says what came up or is over since the run before, so a run that is
started again adds none. It is closed when all is well, and opened again when something new comes up.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from operations import github

# On a line of its own, which no text of a client has.
_MARK = re.compile(r"^<!-- fedpipe-[a-z]+ (?P<state>\{.*\}) -->\s*$", re.MULTILINE)
_SECTION = re.compile(r"^### .*?(?=^### |^<!-- |\Z)", re.MULTILINE | re.DOTALL)
_DASHES = "-\\u002d"  # as JSON writes two, which would end a comment of HTML
_LONGEST = 60_000  # GitHub limits the text of an issue or comment to 65,536 characters


class Item(Protocol):
    """Something to tell: a sentence in Markdown under a heading, and a mark that stays the same from week to week."""

    @property
    def heading(self) -> str: ...  # noqa: D102
    @property
    def text(self) -> str: ...  # noqa: D102
    @property
    def mark(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class Topic:
    """What an issue tracks.

    Attributes:
      label: Its label, which begins with ``fedpipe-``; no other topic has it.
      colour: The label's colour in hexadecimal.
      purpose: The label's description.
      title: The issue's title; ``{branch}`` stands for the branch.
      explanation: The first paragraph of its text.
    """

    label: str
    colour: str
    purpose: str
    title: str
    explanation: str


RETRAINING = Topic(
    "fedpipe-retrain",
    "b60205",
    "The weekly retraining needs a look (make tell)",
    "Retraining of {branch}",
    "The retraining of this branch edits this text, comments on what is new, and closes the issue when all is well "
    "(docs/telling.md).",
)


@dataclass(frozen=True)
class Run:
    """The run that tells.

    Attributes:
      branch: The branch that is retrained.
      week: Its ISO week.
      url: Its page; None outside of CI.
    """

    branch: str
    week: str
    url: str | None

    def __str__(self) -> str:
        return f"{self.week} ([run]({self.url}))" if self.url else self.week


@dataclass(frozen=True)
class _Issue:
    """The existing issue; ``marks`` are those of the findings that it reported."""

    number: str
    url: str
    is_open: bool
    body: str
    marks: frozenset[str]


def update(topic: Topic, run: Run, findings: Sequence[Item], result: str, knows_all: bool = True) -> str | None:
    """Opens, edits, comments or closes the issue, as far as the findings ask for it.

    Args:
      topic: What the issue tracks.
      run: The run.
      findings: What belongs into the issue now.
      result: Result of the run, in a few words.
      knows_all: Whether the run got to look at everything, so that what it does not report any more is over.

    Returns:
      The issue's address, if it is open now.

    Raises:
      PipelineError: `gh` failed.
    """
    issue = _find(topic, run.branch)
    if not findings:
        if issue and issue.is_open and knows_all:
            _close(topic, issue, run, result)
        return None
    former = issue if issue and not knows_all else None
    body = _body(topic, run, findings, former)
    if issue is None:
        github.ensure_label(topic.label, topic.colour, topic.purpose)
        about = ("--title", topic.title.format(branch=run.branch), "--label", topic.label)
        return github.gh("issue", "create", *about, "--body-file", "-", stdin=body).strip()
    new = [finding for finding in findings if finding.mark not in issue.marks]
    over = len(issue.marks - {finding.mark for finding in findings}) if knows_all else 0
    if not issue.is_open:
        if not new:  # a person closed it, and knows
            return None
        github.gh("issue", "reopen", issue.number)
    if body != issue.body.replace("\r\n", "\n").strip():
        github.gh("issue", "edit", issue.number, "--body-file", "-", stdin=body)
    if new or over:
        _comment(issue, _news(run, new, over))
    return issue.url


def _find(topic: Topic, branch: str) -> _Issue | None:
    """The issue of ``branch``: one that is open, else the newest. Only people who may set labels can forge it."""
    fields = "number,state,body,url"
    listed = github.ask("issue", "list", "--label", topic.label, "--state", "all", "--limit", "100", "--json", fields)
    issues = [(state, each) for each in listed or [] if (state := _state(each["body"])).get("branch") == branch]
    ranked = sorted(issues, key=lambda pair: (pair[1]["state"].upper() == "OPEN", pair[1]["number"]))
    if not ranked:
        return None
    state, chosen = ranked[-1]
    marks = frozenset(str(mark) for mark in state.get("findings", []))
    is_open = chosen["state"].upper() == "OPEN"
    return _Issue(str(chosen["number"]), chosen["url"], is_open, chosen["body"], marks)


def _state(body: str) -> dict[str, Any]:
    match = _MARK.search(body)
    try:
        return dict(json.loads(match["state"])) if match else {}
    except ValueError:  # somebody edited it
        return {}


def _body(topic: Topic, run: Run, findings: Sequence[Item], former: _Issue | None) -> str:
    """The text; with what ``former`` tells, under other headings, where the run did not look at that."""
    text = listed(findings)
    for section in _SECTION.findall(former.body.replace("\r\n", "\n")) if former else ():
        if section.partition("\n")[0] not in text.splitlines():
            text += f"\n\n{section.strip()}"
    return "\n\n".join([topic.explanation, f"**{run}**", _cut(text), _mark(topic, run, findings, former)])


def _mark(topic: Topic, run: Run, findings: Sequence[Item], former: _Issue | None = None) -> str:
    marks = {finding.mark for finding in findings} | (former.marks if former else set())
    state = {"branch": run.branch, "week": run.week, "findings": sorted(marks)}
    return f"<!-- {topic.label} {json.dumps(state).replace('--', _DASHES)} -->"


def listed(findings: Sequence[Item]) -> str:
    """The findings as Markdown, by their headings."""
    parts = []
    for heading in dict.fromkeys(finding.heading for finding in findings):
        lines = [f"- {finding.text}" for finding in findings if finding.heading == heading]
        parts.append("\n".join([f"### {heading}", "", *lines]))
    return "\n\n".join(parts)


def _news(run: Run, new: Sequence[Item], over: int) -> str:
    parts = [f"**{run}**"]
    if new:
        parts += ["New:", listed(new)]
    if over:
        parts.append(f"Over: {over} of what was reported before.")
    return "\n\n".join(parts)


def _comment(issue: _Issue, text: str) -> None:
    github.gh("issue", "comment", issue.number, "--body-file", "-", stdin=_cut(text))


def _close(topic: Topic, issue: _Issue, run: Run, result: str) -> None:
    # The marks go first: whatever comes up again is new then.
    body = "\n\n".join([topic.explanation, f"**{run}**: all is well.", _mark(topic, run, [])])
    github.gh("issue", "edit", issue.number, "--body-file", "-", stdin=body)
    _comment(issue, f"**{run}**: all is well again ({result}).")
    github.gh("issue", "close", issue.number, "--reason", "completed")


def _cut(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    return f"{text[: text.rindex(chr(10), 0, _LONGEST)]}\n\n… and more: see the run."
