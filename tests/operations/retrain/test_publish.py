"""A retraining becomes a commit, a version, a tag and a pull request: a real registry, real git; `gh` is a stand-in."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import layout
from fedpipe.errors import PipelineError
from fedpipe.tracking import champions
from fedpipe.tracking.registry import COMMIT_TAG, GIT_TAG, PULL_REQUEST_TAG
from operations.promote import git_champion
from operations.promote.__main__ import main as promote
from operations.retrain import publish, state
from operations.retrain.destination import Clone, Remote, destination
from operations.retrain.outcome import Outcome
from operations.retrain.summary import SUMMARY
from tests.gh_command import ADDRESS
from tests.github_repository import GitHub
from tests.registry_workspace import Workspace, git

BRANCH = "retrain/main"


@pytest.fixture
def gh(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> GitHub:
    folder = tmp_path_factory.mktemp("github")
    github = GitHub(folder / "gh", folder / "remote", login=False)
    github.set_environment(monkeypatch)
    return github


@pytest.fixture
def project(workspace: Workspace, gh: GitHub) -> Workspace:
    """A workspace whose params and pipeline are committed and pushed."""
    with Path(".gitignore").open("a") as ignored:
        ignored.write("/reports/\n")
    git("add", "--all")
    git("commit", "--quiet", "--message", "first")
    git("init", "--quiet", "--bare", str(gh.remote))
    git("remote", "add", "origin", str(gh.remote))
    git("push", "--quiet", "origin", "main")
    return workspace


def retrained(project: Workspace, model: str) -> None:
    """As if `make retrain` had trained and judged ``model``."""
    project.evaluated(model, committed=False)
    promote(["--trained", "--json", str(state.DECISION)])
    SUMMARY.write_text(f"# What came of {model}\n")
    Outcome(dataset="mnist", status="kept", reason="not published yet").write()


def published(*arguments: str) -> Outcome:
    publish.main(list(arguments))
    return Outcome.read()


def champion() -> int | None:
    present = layout.registry().champion("mnist")
    return present.number if present else None


def versions() -> list[str]:
    return [str(each.version) for each in layout.registry().client().search_model_versions("name = 'fedpipe-mnist'")]


def on_remote(ref: str) -> str | None:
    return (git("ls-remote", "origin", ref).split() or [None])[0]


def merge() -> None:
    """As if somebody merged the pull request, and this folder followed."""
    git("fetch", "--quiet", "origin", BRANCH)
    git("reset", "--quiet", "--hard", "FETCH_HEAD")
    git("push", "--quiet", "origin", "HEAD:main")


def test_a_merge_makes_the_champion_and_its_revert_goes_back(
    project: Workspace, gh: GitHub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("SERVER_URL", "https://github.example"), ("REPOSITORY", "a/b"), ("RUN_ID", "7")):
        monkeypatch.setenv(f"GITHUB_{name}", value)
    gh.set(login=True)
    retrained(project, "weak")
    assert json.loads(state.DECISION.read_text())["outcome"] == "proposed" and versions() == []
    before = git("status", "--porcelain", "--branch")
    outcome = published()
    assert git("status", "--porcelain", "--branch") == before and champion() is None
    commit = on_remote(f"refs/heads/{BRANCH}")
    assert on_remote("refs/tags/models/mnist/v1") == commit == outcome.commit
    assert git("rev-parse", f"{commit}^") == git("rev-parse", "main")
    changed = {"dvc.lock", "metrics/training.json", "metrics/rounds.csv", "metrics/evaluation.json"}
    assert set(git("diff", "--name-only", "main", commit).split()) == changed | {"models/champion.json"}
    marker = json.loads(git("show", f"{commit}:models/champion.json"))
    assert (marker["weights_sha256"], marker["model"]) == (state.trained_weights(), "fedpipe-mnist")
    version = layout.registry().version("mnist", 1)
    assert (version.tags[COMMIT_TAG], version.tags[GIT_TAG]) == (commit, "models/mnist/v1")
    assert version.tags[PULL_REQUEST_TAG] == outcome.pull_request == f"{ADDRESS}/pull/1"
    assert version.tags["fedpipe.ci_run"] == "https://github.example/a/b/actions/runs/7"
    assert (outcome.status, outcome.version, outcome.branch) == ("proposed", 1, BRANCH)
    assert "version 1 is the first champion" in outcome.reason
    (created,) = gh.calls("pr", "create")
    assert "--base main --head retrain/main --title Retrain main: proposed (" in created
    assert "--label retrain: proposed" in created
    body = Path("reports/pull_request.md").read_text()
    assert "**Merging this makes fedpipe-mnist version 1 the champion.**" in body and "# What came of weak" in body

    # Once more: nothing twice.
    assert published().commit == commit == on_remote(f"refs/heads/{BRANCH}") and versions() == ["1"]
    assert (
        f"publish: pull request {ADDRESS}/pull/1 is renewed" in capsys.readouterr().err
        and len(gh.calls("pr", "create")) == 1
    )

    merge()
    with pytest.MonkeyPatch.context() as guarded:
        guarded.setenv(git_champion.ENVIRONMENT, "production")
        assert "waits for the job promote; none is champion" in git_champion.follow() and champion() is None
    with pytest.MonkeyPatch.context() as actions:
        actions.setenv("GITHUB_ACTIONS", "true")
        promote(["--merged"])
    outcome = Outcome.read()
    assert (outcome.status, outcome.version, outcome.looked_at_batches) == ("promoted", 1, False)
    assert champion() == 1 and "version 1 is champion now" in capsys.readouterr().out
    assert state.judged(publish.RawDataset.read(layout.RAW)) == "fedpipe-mnist version 1"
    published()
    assert "publish: nothing to publish" in capsys.readouterr().err

    retrained(project, "strong")
    assert published().version == 2 and champion() == 1
    merge()
    promote(["--merged"])
    assert champion() == 2
    git("revert", "--no-edit", "HEAD")
    assert "else this is an old checkout" in git_champion.follow(insist=False, back=False) and champion() == 2
    promote(["--merged"])
    assert champion() == 1 and champions.ROLLED_BACK_TAG in layout.registry().version("mnist", 2).tags
    git("revert", "--no-edit", "HEAD")
    with pytest.raises(PipelineError, match=r"HEAD names fedpipe-mnist version 2, which was rolled back"):
        promote(["--merged"])
    promote(["--merged", "--again"])
    assert champion() == 2


@pytest.mark.slow
def test_a_kept_champions_pull_request_brings_the_report_alone(project: Workspace, gh: GitHub) -> None:
    gh.set(login=True)
    project.register("strong")
    promote([])
    git("add", "--all")
    git("commit", "--quiet", "--message", "a champion")
    retrained(project, "weak")
    outcome = published()
    assert (outcome.status, outcome.version, champion()) == ("kept", 2, 1)
    tip = on_remote(f"refs/heads/{BRANCH}")
    assert git("diff", "--name-only", "main", tip) == "models/kept.md"
    assert git("show", f"{tip}:models/kept.md") == "# What came of weak"
    kept = on_remote("refs/tags/models/mnist/v2")
    assert kept == outcome.commit == layout.registry().version("mnist", 2).tags[COMMIT_TAG]
    assert "metrics/evaluation.json" in git("diff", "--name-only", "main", kept).split()
    assert git("diff", "--name-only", "main", kept, "--", "models") == ""
    assert "--title Retrain main: champion kept (" in gh.calls("pr", "create")[0]
    assert "the tag `models/mnist/v2`" in Path("reports/pull_request.md").read_text()
    assert state.judged(publish.RawDataset.read(layout.RAW)) == "fedpipe-mnist version 2"
    assert published().commit == kept and on_remote(f"refs/heads/{BRANCH}") == tip


@pytest.mark.slow
def test_a_kept_model_leaves_the_pull_request_of_a_better_one(project: Workspace) -> None:
    project.register("weak")
    promote([])
    git("add", "--all")
    git("commit", "--quiet", "--message", "a champion")
    retrained(project, "strong")
    assert published().status == "proposed"
    proposed = on_remote(f"refs/heads/{BRANCH}")
    weak = project.models["weak"]
    project.models["other"] = [*weak[:-1], weak[-1] + np.float32(0.5)]  # the champion's predictions from other bytes
    retrained(project, "other")
    for _ in range(2):
        outcome = published()
        assert (outcome.status, outcome.version, champion()) == ("kept", 3, 1)
        assert on_remote(f"refs/heads/{BRANCH}") == proposed and on_remote("refs/tags/models/mnist/v3")
    layout.registry().tag(layout.registry().version("mnist", 2), {champions.ROLLED_BACK_TAG: "to 1"})
    published()
    tip = on_remote(f"refs/heads/{BRANCH}")
    assert git("diff", "--name-only", "main", tip) == "models/kept.md"  # nobody is to merge what was rolled back


@pytest.mark.slow
def test_at_once_the_champion_moves_on_publishing_and_git_does_not_move_it_back(
    project: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("  when: merged", "  when: at_once"))
    project.register("weak")
    promote([])
    git("add", "--all")
    git("commit", "--quiet", "--message", "a champion")
    promote(["--merged"])
    retrained(project, "strong")
    outcome = published()
    assert (outcome.status, outcome.version, champion()) == ("promoted", 2, 2)
    assert "version 2 takes the place of version 1" in outcome.reason
    assert "promoted" in layout.registry().client().get_model_version("fedpipe-mnist", "2").description
    assert published().status == "promoted" and champion() == 2
    assert "merge or commit the file" in git_champion.follow(insist=False) and champion() == 2


@pytest.mark.parametrize("place", [pytest.param(Remote, marks=pytest.mark.slow), Clone])
def test_killed_before_the_tag_it_makes_nothing_twice(
    project: Workspace, place: type, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if place is Clone:
        git("remote", "remove", "origin")
    assert isinstance(destination(None), place)
    retrained(project, "weak")
    with monkeypatch.context() as killed:
        killed.setattr(place, "set_tag", lambda *_: exit("killed"))
        with pytest.raises(SystemExit):
            published()
    commit = layout.registry().version("mnist", 1).tags[COMMIT_TAG]
    assert published().commit == commit and versions() == ["1"]
    tagged = git("rev-parse", "models/mnist/v1") if place is Clone else on_remote("refs/tags/models/mnist/v1")
    assert tagged == commit
    output = capsys.readouterr().err
    assert "there is no DVC remote, so nobody else can pull the batches, data and models that retrain/main" in output
    if place is Clone:
        assert "without a git remote, merge it here: `git add --all && git merge --ff-only" in output
        git("add", "--all")
        git("merge", "--quiet", "--ff-only", BRANCH)
        promote(["--merged"])
        assert champion() == 1 and git("status", "--porcelain") == ""


def test_an_experiment_has_a_branch_of_its_own_and_no_version(
    project: Workspace, gh: GitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    gh.set(login=True)
    monkeypatch.setenv("FEDPIPE_EXPERIMENT", "main-77")
    retrained(project, "weak")
    outcome = published()
    assert (outcome.branch, outcome.version, versions()) == ("experiment/main-77", None, [])
    commit = on_remote("refs/heads/experiment/main-77")
    assert commit == outcome.commit and on_remote(f"refs/heads/{BRANCH}") is None and on_remote("refs/tags/*") is None
    assert "models/champion.json" not in git("diff", "--name-only", "main", commit)
    assert "--head experiment/main-77 --title Experiment: retrain main" in gh.calls("pr", "create")[0]
    for command in (lambda: promote([]), lambda: promote(["--merged"])):
        with pytest.raises(PipelineError, match="an experiment moves no champion"):
            command()


@pytest.mark.slow
def test_a_tag_of_a_lost_registry_stays(project: Workspace) -> None:
    git("push", "--quiet", "origin", "HEAD:refs/tags/models/mnist/v1")
    retrained(project, "weak")
    commit, weights = published().commit, state.trained_weights()
    assert on_remote("refs/tags/models/mnist/v1") == git("rev-parse", "HEAD")
    assert on_remote(f"refs/tags/models/mnist/v1-{weights[:8]}") == commit


@pytest.mark.slow
def test_a_model_that_was_merged_and_lost_is_champion_once_it_is_registered_again(
    project: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retrained(project, "weak")
    published()
    merge()
    weights = state.trained_weights()
    for name, begin in (("another", lambda: None), ("empty", git_champion.start_anew)):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/{name}.db")
        assert git_champion.to_register() == weights
        begin()
        assert git_champion.to_register() == (weights if name == "another" else None)
        retrained(project, "weak")
        outcome = published()
        assert (outcome.status, outcome.version, champion()) == ("promoted", 1, 1) and not git_champion.to_register()


def test_what_cannot_be_published_is_refused(project: Workspace) -> None:
    retrained(project, "weak")
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("rounds: 10", "rounds: 11"))
    with pytest.raises(PipelineError, match=r"^nothing can be published, since stage train is stale"):
        published()
    Path("params.yaml").write_text(text.replace("accuracy_margin: 0.0", "accuracy_margin: 0.1"))
    with pytest.raises(PipelineError, match=r"changed since the model was judged: `make retrain` judges it again"):
        published()
    Path("params.yaml").write_text(text)
    Path("stages").mkdir()
    Path("stages/new stage.py").touch()
    with pytest.raises(PipelineError, match=r"stages/new stage\.py changed since the last commit, and the results"):
        published()
    shutil.rmtree("stages")
    state.DECISION.unlink()
    with pytest.raises(PipelineError, match=r"how these weights compare with the champion: `make retrain` judges them"):
        published()


def test_secret_noise_is_not_published_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet", "--initial-branch", "main")
    git("-c", "user.name=a", "-c", "user.email=a@a.a", "commit", "--quiet", "--allow-empty", "--message", "first")
    layout.TRAINING.parent.mkdir()
    layout.TRAINING.write_text(json.dumps({"weights_sha256": "ab" * 32, "noise": "secret"}))
    publish.main([])
    output = capsys.readouterr().err
    assert "nothing is published: metrics/training.json has secret noise" in output and "`make register`" in output
    assert git("branch", "--list") == "* main"


def test_an_unfinished_retraining_starts_the_workflow_again(
    project: Workspace, gh: GitHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gh.set(login=True)
    Outcome(dataset="mnist", status="unfinished", reason="the limit").write()
    published()
    assert "nothing to publish yet" in capsys.readouterr().err and not gh.calls("workflow")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    published()
    assert gh.calls("workflow") == ["workflow run retrain.yml --ref main"]
    assert on_remote(f"refs/heads/{BRANCH}") is None and versions() == []
