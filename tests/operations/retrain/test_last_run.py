"""The state of the last run: brought back, or noticed to be missing. `gh` is a stand-in."""

from pathlib import Path

import pytest

from fedpipe.errors import PipelineError
from fedpipe.tracking.marker import Marker
from operations.retrain import last_run
from operations.retrain.kept import Unpacked
from operations.retrain.outcome import Outcome
from tests.github_repository import GitHub
from tests.registry_workspace import git

MARKER = Path("models/champion.json")


@pytest.fixture
def gh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GitHub:
    """A fresh clone of a project with a remote as the current folder, and the stand-in for `gh`."""
    github = GitHub(tmp_path / "gh", tmp_path / "remote")
    github.set_environment(monkeypatch)
    monkeypatch.setenv("GITHUB_REF_NAME", "main")
    (tmp_path / "project/models").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    git("init", "--quiet", "--bare", str(tmp_path / "remote"))
    git("init", "--quiet", "--initial-branch", "main")
    git("remote", "add", "origin", str(tmp_path / "remote"))
    commit(Marker())
    return github


def commit(marker: Marker) -> None:
    MARKER.write_text(marker.text())
    git("add", "--all")
    git("commit", "--quiet", "--message", "a champion")


def keep_state(gh: GitHub, run: int) -> None:
    folder = gh.folder / f"kept-{run}"
    folder.mkdir()
    (folder / "manifest.json").write_text(f"of {run}")
    gh.upload(run, "retrain-state", gh.folder, [folder.name])


CHAMPION = Marker(weights_sha256="ab" * 32, model="fedpipe-mnist")


def test_what_a_run_of_the_default_branch_uploaded_last(
    gh: GitHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = (gh.start_run() for _ in range(3))
    foreign = gh.start_run("pull_request")
    gh.start_run()  # the run that asks
    for run in (first, third, second, foreign):  # the second was started again after the third
        keep_state(gh, run)
    monkeypatch.setattr(
        last_run, "unpack", lambda folder, **_: Unpacked("", 3, notes=[(folder / "manifest.json").read_text()])
    )
    commit(CHAMPION)
    monkeypatch.setenv("GITHUB_REF_NAME", "feature")
    monkeypatch.setenv("FEDPIPE_DEFAULT_BRANCH", "main")
    last_run.main()
    assert capsys.readouterr().err == f"last run: of {second}\nlast run: the state of run {second} is back: 3 files\n"
    (listed,) = gh.calls("run", "list")
    assert "--workflow retrain.yml --branch main " in listed and "--status" not in listed


def test_no_state_is_a_fresh_start_only_where_git_names_no_champion(
    gh: GitHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gh.start_run()
    last_run.main()
    assert "no run on main has kept anything, and git names no champion" in capsys.readouterr().err
    git("push", "--quiet", "origin", "HEAD:refs/tags/models/mnist/v1")
    with pytest.raises(
        PipelineError, match=r"but the repository has the tag models/mnist/v1: restore the champion with"
    ):
        last_run.main()
    commit(CHAMPION)
    refused = r"have expired, but models/champion\.json names a champion \(abababababab…\).*the input start_anew"
    with pytest.raises(PipelineError, match=refused):
        last_run.main()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    last_run.main()
    assert "the model registry is the tracking server's" in capsys.readouterr().err
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("FEDPIPE_START_ANEW", "true")
    last_run.main()
    assert "starting anew, as asked" in capsys.readouterr().err


def test_the_champion_is_restored_as_asked_beside_a_state_too_but_not_by_an_experiment(
    gh: GitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    brought: list[list[str]] = []
    taken: list[dict[str, bool]] = []
    monkeypatch.setattr(last_run, "bring_champion", brought.append)

    def unpack(_: Path, **options: bool) -> Unpacked:
        taken.append(options)
        return Unpacked("")

    monkeypatch.setattr(last_run, "unpack", unpack)
    commit(CHAMPION)
    monkeypatch.setenv("FEDPIPE_CHAMPION_FROM", "42")
    last_run.main()
    keep_state(gh, gh.start_run())
    last_run.main()
    assert brought == [["--", "42"]] * 2 and taken == [{"takes_unfinished": True}]
    monkeypatch.setenv("FEDPIPE_EXPERIMENT", "main-7")
    with pytest.raises(PipelineError, match="an experiment does not move: start the workflow on main"):
        last_run.main()
    monkeypatch.delenv("FEDPIPE_CHAMPION_FROM")
    last_run.main()
    assert taken[1:] == [{"takes_unfinished": False}]


def test_a_state_that_cannot_be_downloaded_is_no_fresh_start(gh: GitHub) -> None:
    keep_state(gh, gh.start_run())
    gh.lose("retrain-state")
    with pytest.raises(PipelineError, match="`gh run download` failed"):
        last_run._main()
    outcome = Outcome.read()
    assert outcome.status == "failed" and "`gh run download` failed" in outcome.reason
