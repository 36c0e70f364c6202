"""Ten weeks of a team that retrains: good, bad and mislabelled batches, a time limit, merges, a lost state, a rollback.

The workflow's own steps, in fresh clones, on real MNIST. The weeks are one story, so they are one test. It prints the
table that docs/retraining.md shows; with FEDPIPE_PLAY_TABLE it writes it to the file of that name.
"""

import csv
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.batches import add_npz
from tests.play.workflow import Job, Team
from tests.small_pipeline import edit

pytestmark = pytest.mark.slow

PARAMS = {
    "  scheme: contiguous": "  scheme: iid",
    "  clients: 600": "  clients: 50",
    "  leave_out: 0": "  leave_out: 58000",
    "  rounds: 10": "  rounds: 3",
    "    learning_rate: 0.02": "    learning_rate: 0.1",
}
GIT = ["git", "-c", "user.name=person", "-c", "user.email=person@example.com"]


@pytest.fixture(scope="module")
def team(clone: Callable[[str], Path], raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Team:
    project = clone("play")
    edit(project, PARAMS)
    subprocess.run([*GIT, "commit", "-qam", "our params"], cwd=project, check=True)
    return Team(tmp_path_factory.mktemp("team"), project, raw)


class Story:
    """The weeks as they pass, and the table of them."""

    def __init__(self, team: Team) -> None:
        self.team = team
        self.rows: list[dict[str, str]] = []

    def week(self, happened: str, job: Job | None, result: str) -> None:
        outcome = job.outcome() if job and (job.folder / "reports/outcome.json").is_file() else None
        accuracy = f"{outcome.accuracy:.4f}" if outcome and outcome.accuracy else ""
        state = f"{job.uploaded.get('retrain-state', 0) / 1e6:.1f}" if job else ""
        champion = self.team.marker()
        self.rows.append(
            {
                "week": str(len(self.rows) + 1),
                "what happened": happened,
                "outcome": result,
                "accuracy": accuracy,
                "champion in git": f"{champion['accuracy']:.4f}" if champion["weights_sha256"] else "none",
                "state, MB": state,
            }
        )
        print("week", self.rows[-1], f"{job.seconds:.0f} s" if job else "", flush=True)

    def table(self) -> str:
        head = list(self.rows[0])
        lines = [head, ["---"] * len(head), *([row[name] for name in head] for row in self.rows)]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def succeeded(job: Job) -> Job:
    failed = [f"$ {step.command}\n{step.output[-4000:]}" for step in job.steps if step.code]
    assert not failed, "\n".join(failed)
    return job


def test_ten_weeks(team: Team, training_set: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = training_set[0], training_set[1]
    story, github = Story(team), team.github

    def batch(name: str, start: int, size: int, change: Callable = lambda images, labels: (images, labels)) -> None:
        part = slice(start, start + size)
        add_npz(team.incoming, name, *change(images[part], labels[part]))

    # 1: the first model. Nothing is champion until a person merges.
    job = succeeded(team.retrain())
    assert job.outcome().status == "proposed" and team.marker()["weights_sha256"] is None
    (first,) = github.pulls
    assert first["title"].startswith("Proposed") or "roposed" in first["title"], first["title"]
    promotion = team.merge(first["number"])
    assert promotion is not None and "version 1 is champion now" in succeeded(promotion).output_of("make promote")
    story.week("the first retraining; the pull request is merged", job, "proposed, merged, champion")

    # 2: a good batch, merged.
    batch("week-02", 0, 2000)
    job = succeeded(team.retrain())
    assert job.outcome().status == "proposed" and job.outcome().new_batches == ["week-02"]
    assert team.merge(github.pulls[-1]["number"])
    story.week("a batch of 2,000 images; merged", job, "proposed, merged, champion")

    # 3: an inverted batch waits, a good one trains.
    batch("week-03", 2000, 2000)
    batch("inverted", 4000, 500, lambda images, labels: (255 - images, labels))
    job = succeeded(team.retrain())
    outcome = job.outcome()
    assert list(outcome.held) == ["inverted"] and outcome.new_batches == ["week-03"], outcome
    assert outcome.status == "proposed"
    assert team.merge(github.pulls[-1]["number"])
    (issue,) = [each for each in github.issues if each["state"] == "OPEN"]
    assert "`inverted`" in issue["body"] + "".join(comment["body"] for comment in issue["comments"])
    story.week("a good batch, and one with inverted images", job, "good: merged, champion; inverted: on hold")

    # 4: mislabelled images wait, too; a person rejects both, and they are not taken up again.
    batch("mislabelled", 10000, 8000, lambda images, labels: (images, (labels + 1) % 10))
    job = succeeded(team.retrain())
    assert sorted(job.outcome().held) == ["inverted", "mislabelled"] and job.outcome().status == "nothing_new"
    person = team.clone("person-4")
    team.download(person)
    for name in ("inverted", "mislabelled"):
        digest = re.search(rf"{name}: on hold.*?SHA-256 ([0-9a-f]{{64}})", job.output_of("make retrain"))
        assert digest, job.output_of("make retrain")
        done = team.make(person, "incoming", f"ARGS=reject {name} --sha256 {digest[1]}")
        assert done.code == 0, done.output
    team.commit_and_push(person, "Reject two batches")
    story.week("8,000 mislabelled images; a person rejects them and the inverted ones", job, "nothing new; on hold")

    # 5: a training that is not done in time resumes in the next run.
    batch("week-05", 18000, 2000)
    person = team.clone("person-5")
    edit(person, {"  rounds: 3": "  rounds: 12"})
    team.commit_and_push(person, "More rounds")
    job = succeeded(team.retrain(FEDPIPE_MINUTES="0.5"))
    assert job.outcome().status == "unfinished", job.output_of("make retrain")[-3000:]
    assert github.calls("workflow", "run", "retrain.yml")
    job = succeeded(team.retrain(event="workflow_dispatch"))
    assert job.outcome().status == "proposed" and not job.outcome().held
    assert team.merge(github.pulls[-1]["number"])
    story.week("the time limit ends the training; the next run resumes it", job, "unfinished, then proposed, merged")

    # 6: params that make it worse. The champion stays; the pull request brings the report only.
    person = team.clone("person-6")
    edit(person, {"    learning_rate: 0.1": "    learning_rate: 0.001"})
    team.commit_and_push(person, "A lower rate")
    job = succeeded(team.retrain())
    assert job.outcome().status == "kept"
    kept = github.pulls[-1]
    assert team.changed(kept) == ["models/kept.md"] and "ept" in kept["title"]
    assert job.outcome().version and team.tag(f"models/mnist/v{job.outcome().version}")
    edit(person, {"    learning_rate: 0.001": "    learning_rate: 0.1"})
    team.commit_and_push(person, "The rate of before")
    story.week("params that train a worse model", job, "kept")

    # 7: the state expires. The run fails, and is started again with the champion of an earlier run.
    champion_run = max(each["run"] for each in github.state["artifacts"] if each["name"] == "champion")
    github.expire("retrain-state")
    job = team.retrain()
    assert (
        not job.succeeded and "champion_from" in job.output_of("make last-run") and "retrain-state" not in job.uploaded
    )
    assert any(each["state"] == "OPEN" for each in github.issues)
    batch("week-07", 20000, 2000)
    job = succeeded(team.retrain("workflow_dispatch", champion_from=str(champion_run)))
    assert job.outcome().status == "proposed" and job.outcome().champion_accuracy
    assert team.merge(github.pulls[-1]["number"])
    story.week(
        "the state is lost; restored from an artifact `champion`, with a batch", job, "failed, then proposed, merged"
    )

    # 8: an experiment moves nothing, and has a branch of its own.
    before = (team.marker(), len(github.pulls), team.tags())
    job = succeeded(team.retrain("workflow_dispatch", params="train.rounds=4"))
    assert (team.marker(), team.tags()) == (before[0], before[2])
    assert github.pulls[-1]["headRefName"].startswith("experiment/") and "retrain-state" not in job.uploaded
    github.close(github.pulls[-1]["number"])
    story.week("an experiment with four rounds, by hand", job, "a branch of its own; nothing moves")

    # 9: a rollback by a person, with the champion's own state.
    job = succeeded(team.retrain())
    assert job.outcome().status == "nothing_new"
    person = team.clone("person-9")
    run = max(each["run"] for each in github.state["artifacts"] if each["name"] == "retrain-state")
    state = next(e["folder"] for e in github.state["artifacts"] if (e["run"], e["name"]) == (run, "retrain-state"))
    done = team.make(person, "restore-state", f"FOLDER={state}")
    assert done.code == 0, done.output
    done = team.make(person, "promote", "ARGS=--rollback")
    assert done.code == 0, done.output
    was = team.marker()
    team.commit_and_push(person, "Roll back")
    assert team.marker() != was
    promotion = succeeded(team.promote())
    story.week("a person rolls the champion back", job, "the former champion is champion")

    # 10: a batch is withdrawn, another one comes.
    person = team.clone("person-10")
    team.download(person)
    done = team.make(person, "incoming", "ARGS=withdraw week-02")
    assert done.code == 0 and "version" in done.output, done.output
    team.commit_and_push(person, "Withdraw week-02")
    batch("week-10", 22000, 2000)
    job = succeeded(team.retrain())
    assert job.outcome().status in ("proposed", "kept")
    ledger = (job.folder / "data/pool/ledger.csv").read_text()
    events = [(row["batch"], row["event"]) for row in csv.DictReader(ledger.splitlines())]
    assert ("week-02", "withdrawn") in events and ("week-10", "added") in events
    story.week("a batch is withdrawn, another one comes", job, job.outcome().status)

    table = story.table()
    print(table)
    if path := os.environ.get("FEDPIPE_PLAY_TABLE"):
        Path(path).write_text(table, encoding="utf-8")
    sizes = [float(row["state, MB"]) for row in story.rows if row["state, MB"]]
    assert max(sizes) < 30, json.dumps(sizes)


def test_the_tests_pass_in_the_teams_repository(team: Team) -> None:
    """With its params, batches, decisions, marker and results: tests have a recipe and a ledger of their own."""
    folder = team.clone("tested")
    files = [
        "tests/operations/incoming",
        "tests/operations/retrain",
        "tests/operations/register",
        "tests/test_library.py",
    ]
    done = team.make(folder, "test-quick", f"ARGS={' '.join(files)}")
    print(done.output[-1000:])
    assert done.code == 0, done.output[-8000:]
