"""A pull request says by title, labels and a comment what came of a retraining."""

from operations import github as command
from operations.tell import pull_request
from tests.github_repository import GitHub
from tests.operations.tell.test_tell import EVIL, outcome


def renew(week: int, status: str = "proposed", **values: object) -> tuple[str, bool]:
    return pull_request.open_or_renew(outcome(week, status, **values), "main", "retrain/main", f"Text of week {week}")


def labels(github: GitHub) -> list[str]:
    return [label["name"] for label in github.pulls[0]["labels"]]


def test_title_labels_and_text_follow_the_outcome_and_labels_of_people_stay(github: GitHub) -> None:
    address, _ = renew(48, held={"a": "dark"})
    assert github.pulls[0]["title"] == "Retrain main: proposed, accuracy 0.7800 -> 0.7900, 1 batch on hold (2026-W48)"
    assert labels(github) == ["retrain: proposed", "retrain: held"] and address == github.pulls[0]["url"]
    command.ensure_label("reviewed", "ffffff", "A person's")
    command.gh("pr", "edit", "1", "--add-label", "reviewed")
    assert renew(49, "kept") == (address, True) and len(github.pulls) == 1
    assert labels(github) == ["reviewed", "retrain: kept"] and "champion kept" in github.pulls[0]["title"]
    assert github.pulls[0]["body"].startswith("Text of week 49\n")
    renew(50, "nothing_new")
    assert labels(github) == ["reviewed"]


def test_a_renewed_pull_request_has_a_comment_and_a_run_that_is_started_again_adds_none(github: GitHub) -> None:
    for _ in range(2):
        renew(48)
    assert github.pulls[0]["comments"] == []
    for _ in range(2):
        renew(49, new_batches=["week-49"], rejected={EVIL: ""}, run_url="https://github.example/run")
    (comment,) = (comment["body"] for comment in github.pulls[0]["comments"])
    assert "**Renewed in week 2026-W49** ([run](https://github.example/run)): proposed, accuracy 0.7800" in comment
    assert "`week-49`" in comment and "Rejected: `@octocat" in comment


def test_a_pull_request_from_a_fork_with_a_branch_of_that_name_is_not_ours(github: GitHub) -> None:
    renew(48)
    github.set(pulls=[github.pulls[0] | {"isCrossRepository": True, "title": "Somebody's", "body": "Anything"}])
    address, renewed = renew(49)
    assert not renewed and github.pulls[0]["title"] == "Somebody's"
    assert github.pulls[0]["body"] == "Anything" and address == github.pulls[1]["url"] and len(github.pulls) == 2


def test_a_kept_model_is_a_comment_on_the_pull_request_that_still_proposes_another(github: GitHub) -> None:
    assert pull_request.open_ones("main", "retrain/main", "number") == []
    address, _ = renew(48)
    before = {key: value for key, value in github.pulls[0].items() if key != "comments"}
    assert [each["number"] for each in pull_request.open_ones("main", "retrain/main", "number")] == [1]
    for _ in range(2):  # started again
        kept = outcome(49, "kept", reason=EVIL)
        assert pull_request.comment_kept(kept, "1", "fedpipe-mnist version 2", "# The report") == address
    (comment,) = (comment["body"] for comment in github.pulls[0]["comments"])
    assert "**Week 2026-W49** ([run](" in comment and "still proposes fedpipe-mnist version 2" in comment
    assert "# The report" in comment and "`@octocat" in comment
    assert {key: value for key, value in github.pulls[0].items() if key != "comments"} == before
