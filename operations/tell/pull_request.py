"""A retraining's pull request: title and labels that report the result, and a comment when it is renewed."""

import json
from typing import Any

from operations import github
from operations.retrain.outcome import Outcome, Status
from operations.tell.text import code, figures

_PREFIX = "retrain: "
# Label by what it says: colour and description.
_LABELS = {
    "promoted": ("0e8a16", "The model is champion"),
    "proposed": ("1d76db", "The rules hold: merging makes the model champion"),
    "kept": ("d4c5f9", "A rule fails: the champion stays"),
    "unfinished": ("fbca04", "The training has not ended: the next run resumes"),
    "held": ("e99695", "A batch waits for a person to release or reject it"),
}
_WORDS: dict[Status, str] = {
    "nothing_new": "no new model",
    "promoted": "promoted",
    "proposed": "proposed",
    "kept": "champion kept",
    "unfinished": "training unfinished",
    "failed": "failed",
}


def title(outcome: Outcome, base: str) -> str:
    """``Retrain main: proposed, accuracy 0.7800 -> 0.7900 (2026-W48)``, and how many batches are on hold.

    Args:
      outcome: Result of the retraining.
      base: The branch that the pull request goes into.
    """
    parts = [result(outcome)]
    if outcome.held:
        parts.append(f"{len(outcome.held)} {'batch' if len(outcome.held) == 1 else 'batches'} on hold")
    return f"Retrain {base}: {', '.join(parts)} ({outcome.week})"


def result(outcome: Outcome) -> str:
    """The result in a few words: ``proposed, accuracy 0.7800 -> 0.7900``."""
    return ", ".join(filter(None, (_WORDS[outcome.status], figures(outcome.accuracy, outcome.champion_accuracy))))


def labels(outcome: Outcome) -> list[str]:
    """The labels that the pull request has now; others of `ALL_LABELS` are taken away."""
    names = [outcome.status] if outcome.status in _LABELS else []
    return [f"{_PREFIX}{name}" for name in [*names, *(["held"] if outcome.held else [])]]


ALL_LABELS = tuple(f"{_PREFIX}{name}" for name in _LABELS)


def comment(outcome: Outcome) -> str:
    """The comment on a renewed pull request."""
    run = f" ([run]({outcome.run_url}))" if outcome.run_url else ""
    lines = [f"**Renewed in week {outcome.week}**{run}: {result(outcome)}.", code(outcome.reason)]
    if outcome.new_batches:
        lines.append(f"Trained on new batches: {', '.join(map(code, sorted(outcome.new_batches)))}.")
    if outcome.held:
        lines.append(f"On hold: {', '.join(map(code, sorted(outcome.held)))}.")
    if outcome.rejected:
        lines.append(f"Rejected: {', '.join(map(code, sorted(outcome.rejected)))}.")
    return "\n\n".join(lines)


def open_or_renew(outcome: Outcome, base: str, branch: str, body: str) -> tuple[str, bool]:
    """Opens the pull request, or renews the one that is open: title, labels, text, and a comment.

    A run that is started again finds its mark in the text, and does not comment.

    Args:
      outcome: Result of the retraining.
      base: The branch that it goes into.
      branch: The branch that it brings.
      body: Its text.

    Returns:
      Its URL, and whether it was open before.

    Raises:
      PipelineError: `gh` failed.
    """
    names = labels(outcome)
    for name in names:
        github.ensure_label(name, *_LABELS[name.removeprefix(_PREFIX)])
    text = f"{body.rstrip()}\n\n{_mark(outcome)}\n"
    written = ["--title", title(outcome, base), "--body-file", "-"]
    ends = ["--base", base, "--head", branch]
    present = open_ones(base, branch, "number,url,body,labels")
    if not present:
        worn = ["--label", ",".join(names)] if names else []
        return github.gh("pr", "create", *ends, *written, *worn, stdin=text).strip(), False
    former, number = present[0], str(present[0]["number"])
    outdated = sorted({label["name"] for label in former["labels"]} & set(ALL_LABELS) - set(names))
    changed = ["--add-label", ",".join(names)] if names else []
    changed += ["--remove-label", ",".join(outdated)] if outdated else []
    github.gh("pr", "edit", number, *written, *changed, stdin=text)
    if _mark(outcome) not in former["body"]:
        github.gh("pr", "comment", number, "--body-file", "-", stdin=comment(outcome))
    return str(former["url"]), True


def comment_kept(outcome: Outcome, number: str, proposed: str, report: str) -> str:
    """Comments on a pull request that proposes another model, which is left as it is; once, as `open_or_renew`.

    Args:
      outcome: Result of the retraining.
      number: The pull request's number.
      proposed: The version that it proposes.
      report: The summary of the retraining.

    Returns:
      The pull request's URL.

    Raises:
      PipelineError: `gh` failed.
    """
    pull = github.ask("pr", "view", number, "--json", "url,comments")
    if not any(_mark(outcome) in each["body"] for each in pull["comments"]):
        run = f" ([run]({outcome.run_url}))" if outcome.run_url else ""
        lead = (
            f"**Week {outcome.week}**{run}: a later model is not better than the champion, so this pull request still "
            f"proposes {proposed}, and is unchanged."
        )
        text = "\n\n".join([lead, code(outcome.reason), report.rstrip(), _mark(outcome)])
        github.gh("pr", "comment", number, "--body-file", "-", stdin=f"{text}\n")
    return str(pull["url"])


def open_ones(base: str, branch: str, fields: str) -> list[dict[str, Any]]:
    """The open pull requests of this repository from ``branch`` into ``base``, with ``fields`` as `gh` names them.

    Raises:
      PipelineError: `gh` failed.
    """
    ends = ["--base", base, "--head", branch, "--state", "open"]
    listed = github.ask("pr", "list", *ends, "--json", f"{fields},isCrossRepository") or []
    # `--head` also finds pull requests from forks whose branch has the same name: anybody's code under our title.
    return [each for each in listed if not each.get("isCrossRepository")]


def _mark(outcome: Outcome) -> str:
    state = [outcome.week, outcome.status, outcome.weights_sha256 or ""]
    return f"<!-- fedpipe-renewed {json.dumps(state)} -->"
