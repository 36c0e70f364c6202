"""A pull request says by title, labels and a comment what came of a retraining."""

from operations.tell import github as command
from operations.tell import pull_request
from tests.github_repository import GitHub
from tests.operations.tell.test_tell import outcome


def opened(github: GitHub) -> str:
    command.gh("pr", "create", "--base", "main", "--head", "retrain/main", "--title", "Retrain", "--body", "text")
    return str(github.pulls[0]["number"])


def labels(github: GitHub) -> list[str]:
    return [label["name"] for label in github.pulls[0]["labels"]]


def test_title_and_labels_follow_the_outcome_and_others_labels_stay(github: GitHub) -> None:
    number = opened(github)
    command.ensure_label("reviewed", "ffffff", "A person's")
    command.gh("pr", "edit", number, "--add-label", "reviewed")
    pull_request.apply(number, outcome(48, held={"a": "dark"}), "main")
    (pull,) = github.pulls
    assert pull["title"] == "Retrain main: proposed, accuracy 0.7800 -> 0.7900, 1 batch on hold (2026-W48)"
    assert labels(github) == ["reviewed", "retrain: proposed", "retrain: held"]
    pull_request.apply(number, outcome(49, "kept"), "main")
    assert labels(github) == ["reviewed", "retrain: kept"] and "champion kept" in github.pulls[0]["title"]
    pull_request.apply(number, outcome(50, "nothing_new"), "main")
    assert labels(github) == ["reviewed"]


def test_a_renewed_pull_request_has_one_comment_a_week(github: GitHub) -> None:
    number = opened(github)
    week = outcome(48, new_batches=["week-48"], run_url="https://github.example/run")
    assert pull_request.say_renewed(number, week) and not pull_request.say_renewed(number, week)
    assert pull_request.say_renewed(number, outcome(49))
    first, second = (comment["body"] for comment in github.pulls[0]["comments"])
    assert "**Renewed in week 2026-W48** ([run](https://github.example/run)): proposed, accuracy 0.7800" in first
    assert "`week-48`" in first and "2026-W49" in second
