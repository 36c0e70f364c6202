"""`make tell`: the tracking issue through the weeks, and what becomes of texts that clients wrote."""

import datetime
from typing import Any

import pytest

from fedpipe import params
from fedpipe.errors import PipelineError
from layout import PARAMS
from operations.retrain.outcome import OUTCOME, Outcome
from operations.tell.__main__ import main
from operations.tell.findings import Finding, Surroundings, findings
from operations.tell.text import code, for_chat
from tests import RECIPE
from tests.github_repository import GitHub

EVIL = "@octocat ![x](http://evil.example/x.png) `<!channel>`\n# \u202ebig <!-- fedpipe"


def outcome(week: int, status: str = "proposed", **values: Any) -> Outcome:
    usual = {"reason": "it is better", "accuracy": 0.79, "champion_accuracy": 0.78, "weights_sha256": "def"}
    return Outcome.model_validate({"dataset": "mnist", "status": status, "week": f"2026-W{week}"} | usual | values)


def tell(week: int, status: str = "proposed", **values: Any) -> None:
    outcome(week, status, **values).write(OUTCOME)
    main()


def comments(github: GitHub) -> list[str]:
    return [comment["body"] for comment in github.issues[0]["comments"]]


def test_the_issue_is_opened_commented_and_closed_without_saying_anything_twice(github: GitHub) -> None:
    tell(1)
    assert github.issues == [] and github.labels == {}  # all is well
    tell(2, rejected={"week-2": "a wrong hash"})
    (issue,) = github.issues
    assert issue["title"] == "Retraining of main" and issue["labels"] == [{"name": "fedpipe-retrain"}]
    assert "`week-2`: `a wrong hash`" in issue["body"] and "actions/runs/1000" in issue["body"]
    tell(2, rejected={"week-2": "a wrong hash"})  # started again
    tell(3, rejected={"week-2": "a wrong hash"})  # and nothing new a week later
    assert len(github.issues) == 1 and comments(github) == [] and "2026-W3" in github.issues[0]["body"]
    tell(4, status="failed", rejected={"week-2": "a wrong hash"}, held={"week-4": "its labels"})
    (comment,) = comments(github)
    assert "### Failed" in comment and "`week-4`" in comment and "week-2" not in comment
    tell(5, held={"week-4": "its labels"})
    assert "Over: 2 of what was reported before." in comments(github)[1]
    tell(6)
    assert "all is well again (proposed, accuracy 0.7800 -> 0.7900)" in comments(github)[2]
    assert github.issues[0]["state"] == "CLOSED" and len(comments(github)) == 3
    tell(7)
    tell(8, status="failed")
    assert len(github.issues) == 1 and github.issues[0]["state"] == "OPEN" and len(comments(github)) == 4


def test_a_run_that_failed_or_did_not_look_takes_nothing_back(github: GitHub) -> None:
    tell(2, held={"week-2": "its labels"})
    for week, status in ((3, "failed"), (4, "unfinished")):
        tell(week, status=status)
        assert "`week-2`: `its labels`" in github.issues[0]["body"] and github.issues[0]["state"] == "OPEN"
    tell(4, status="promoted", looked_at_batches=False)  # the job promote
    assert "`week-2`: `its labels`" in github.issues[0]["body"] and github.issues[0]["state"] == "OPEN"
    OUTCOME.unlink()
    main()
    assert "### Failed" in github.issues[0]["body"] and "`week-2`: `its labels`" in github.issues[0]["body"]
    assert not any("Over:" in comment for comment in comments(github))
    tell(5, held={"week-2": "its labels"})
    assert "Over: 2 of what" in comments(github)[-1] and "### Failed" not in github.issues[0]["body"]


def test_a_client_cannot_write_the_mark(github: GitHub) -> None:
    forged = '<!-- fedpipe-retrain {"branch": "main", "findings": []} -->'
    for _ in range(2):
        tell(2, rejected={forged: "a wrong hash"})
    assert len(github.issues) == 1 and comments(github) == []


def test_an_issue_that_a_person_closed_stays_closed_until_something_new_comes_up(github: GitHub) -> None:
    tell(2, held={"week-2": "its labels"})
    github.close(1)
    tell(3, held={"week-2": "its labels"})
    assert github.issues[0]["state"] == "CLOSED"
    tell(4, held={"week-2": "its labels", "week-4": "dark"})
    assert github.issues[0]["state"] == "OPEN"


def test_a_job_that_died_is_told_and_its_summary_says_so(
    github: GitHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "job.md"))
    PARAMS.write_text("train: [")  # which may be why
    main()
    assert "The job ended before it wrote down what came of it" in github.issues[0]["body"]
    assert "### Failed" in (tmp_path / "job.md").read_text()


def test_the_mark_is_found_whatever_the_branch_is_called_and_texts_of_clients_are_shown_as_they_are(
    github: GitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_REF_NAME", "a--b}")
    for week in (1, 2):
        tell(week, held={EVIL: EVIL}, drifted=[EVIL])
    assert len(github.issues) == 1 and "a--b" not in github.issues[0]["body"]  # it would end the comment that hides it
    body = github.issues[0]["body"]
    assert body.count("@octocat") == body.count("`@octocat") and body.count("<!-- ") == 1 + body.count("big <!-- ")
    assert code(EVIL) == "`@octocat ![x](http://evil.example/x.png) '<!channel>' # big <!-- fedpipe`"
    assert "@octocat" not in for_chat(code(EVIL)) and "<!" not in for_chat(code(EVIL))


def test_an_experiment_and_a_place_without_gh_leave_the_issue_alone(
    github: GitHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FEDPIPE_EXPERIMENT", "main-1000")
    tell(1, status="failed")
    monkeypatch.delenv("FEDPIPE_EXPERIMENT")
    github.set(login=False)
    tell(1, status="failed", reason="no space left")
    assert github.issues == []
    assert "tell: failed: The retraining failed: `no space left`" in capsys.readouterr().err


def test_what_github_does_not_take_is_an_error_with_the_remedy(github: GitHub) -> None:
    github.set(no_issues="the repository has disabled issues", no_api="HTTP 403: the token may not read that")
    with pytest.raises(PipelineError, match=r"disabled issues; the workflow's job needs .*tell\.issue_on"):
        tell(1, status="failed")


def test_what_leads_to_the_promotion_is_told_as_far_as_it_has_come() -> None:
    settings, today = params.load(params.Tell, RECIPE / "params.yaml"), datetime.date(2026, 11, 29)

    def news(week: int, status: str = "proposed", **values: Any) -> list[Finding]:
        return findings(outcome(week, status, **values), Surroundings(), settings, f"2026-W{week}", today)

    url = "https://github.example/pull/1"
    assert f"merging its [pull request]({url}) promotes it" in news(48, branch="retrain/main", pull_request=url)[0].text
    assert "merging the branch `retrain/main` promotes it" in news(48, branch="retrain/main")[0].text
    (unpublished,) = news(48)
    assert "it is not published, so no merge promotes it: the log" in unpublished.text
    assert "became champion" in news(48, "promoted")[0].text
    assert news(49, "promoted", was_champion=True) == []
    unmerged = {"was_champion": True, "branch": "retrain/main", "pull_request": url}
    (first,), (second,) = (news(week, "promoted", **unmerged) for week in (49, 50))
    assert first.mark == second.mark and f"merge [pull request]({url})" in first.text
    assert "became" not in first.text


def test_time_is_told(github: GitHub) -> None:
    """The state's artifact, the schedule, and weeks without promotion: from what the repository says."""
    settings = params.load(params.Tell, PARAMS)
    today, week = datetime.date(2026, 11, 29), "2026-W48"
    past = Surroundings(
        None, today - datetime.timedelta(35), today + datetime.timedelta(9), today - datetime.timedelta(50)
    )
    text = {finding.kind: finding.text for finding in findings(outcome(48), past, settings, week, today)}
    assert "for 5 weeks; the champion is of 2026-10-25" in text["no_promotion"] and "for 50 days" in text["expiry"]
    kinds = [finding.kind for finding in findings(outcome(48, "promoted"), past, settings, week, today)]
    assert kinds == ["promoted", "expiry", "expiry"]
    recent = Surroundings("success", today, today + datetime.timedelta(90), today)
    assert [finding.kind for finding in findings(outcome(48), recent, settings, week, today)] == ["proposed"]
    for job in ("failure", "cancelled"):
        assert findings(outcome(48), Surroundings(job), settings, week, today)[0].kind == "failed"

    github.upload(1000, "retrain-state", OUTCOME.parent.parent, ["params.yaml"], days=7)
    github.set(private=False, pushed_at="2026-01-01T00:00:00Z")
    tell(48)
    body = github.issues[0]["body"]
    assert "expires in " in body and "GitHub disables the schedule" in body and "No promotion" not in body
