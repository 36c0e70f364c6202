"""A retraining's pull request: title and labels that say what came of it, and a comment when it is renewed."""

import json

from operations.retrain.outcome import Outcome, Status
from operations.tell import github
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
      outcome: What came of it.
      base: The branch that the pull request goes into.
    """
    parts = [result(outcome)]
    if outcome.held:
        parts.append(f"{len(outcome.held)} {'batch' if len(outcome.held) == 1 else 'batches'} on hold")
    return f"Retrain {base}: {', '.join(parts)} ({outcome.week})"


def result(outcome: Outcome) -> str:
    """What came of it in a few words: ``proposed, accuracy 0.7800 -> 0.7900``."""
    return ", ".join(filter(None, (_WORDS[outcome.status], figures(outcome.accuracy, outcome.champion_accuracy))))


def labels(outcome: Outcome) -> list[str]:
    """The labels that the pull request has now; others of `ALL_LABELS` are taken away."""
    names = [outcome.status] if outcome.status in _LABELS else []
    return [f"{_PREFIX}{name}" for name in [*names, *(["held"] if outcome.held else [])]]


ALL_LABELS = tuple(f"{_PREFIX}{name}" for name in _LABELS)


def comment(outcome: Outcome) -> str:
    """The comment on a renewed pull request; its last line is a mark that GitHub does not show."""
    run = f" ([run]({outcome.run_url}))" if outcome.run_url else ""
    lines = [f"**Renewed in week {outcome.week}**{run}: {result(outcome)}.", code(outcome.reason)]
    if outcome.new_batches:
        lines.append(f"Trained on new batches: {', '.join(map(code, sorted(outcome.new_batches)))}.")
    if outcome.held:
        lines.append(f"On hold: {', '.join(map(code, sorted(outcome.held)))}.")
    if outcome.rejected:
        lines.append(f"Rejected: {', '.join(map(code, sorted(outcome.rejected)))}.")
    return "\n\n".join([*lines, _mark(outcome)])


def apply(number: str, outcome: Outcome, base: str) -> None:
    """Gives a pull request its title and labels, and makes the labels that the repository does not have.

    Raises:
      PipelineError: `gh` failed.
    """
    present = labels(outcome)
    arguments = ["pr", "edit", number, "--title", title(outcome, base)]
    if present:
        for name in present:
            github.ensure_label(name, *_LABELS[name.removeprefix(_PREFIX)])
        arguments += ["--add-label", ",".join(present)]
    worn = {label["name"] for label in github.ask("pr", "view", number, "--json", "labels")["labels"]}
    if outdated := sorted(worn & set(ALL_LABELS) - set(present)):
        arguments += ["--remove-label", ",".join(outdated)]
    github.gh(*arguments)


def say_renewed(number: str, outcome: Outcome) -> bool:
    """Comments on a renewed pull request, once for what came of a week.

    Returns:
      Whether there was something to say that no comment has said.

    Raises:
      PipelineError: `gh` failed.
    """
    comments = github.ask("pr", "view", number, "--json", "comments")["comments"]
    if any(_mark(outcome) in each["body"] for each in comments):
        return False
    github.gh("pr", "comment", number, "--body-file", "-", stdin=comment(outcome))
    return True


def _mark(outcome: Outcome) -> str:
    state = [outcome.week, outcome.status, outcome.weights_sha256 or ""]
    return f"<!-- fedpipe-renewed {json.dumps(state)} -->"
