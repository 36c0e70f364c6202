"""Where commits and tags of a retraining go: real git, a remote and a clone without one."""

from pathlib import Path

import pytest

from fedpipe.errors import PipelineError
from operations import commands
from operations.retrain import commits
from operations.retrain.destination import Clone, Remote, base_branch, credentials, destination, is_of_retraining
from tests.github_repository import GitHub
from tests.registry_workspace import git

BRANCH = "retrain/main"


@pytest.fixture
def gh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GitHub:
    """A project with a remote as the current folder, and the stand-in for `gh`."""
    github = GitHub(tmp_path / "gh", tmp_path / "remote")
    github.set_environment(monkeypatch)
    (tmp_path / "project/models").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    git("init", "--quiet", "--bare", str(tmp_path / "remote"))
    git("init", "--quiet", "--initial-branch", "main")
    git("remote", "add", "origin", str(tmp_path / "remote"))
    Path("params.yaml").write_text("old\n")
    git("add", "--all")
    git("commit", "--quiet", "--message", "first")
    git("push", "--quiet", "origin", "main")
    return github


def retrained(text: str) -> str:
    Path("params.yaml").write_text(text)
    return commits.commit(commits.results_tree({Path("models/champion.json"): text}), "Retrain main")


def test_a_commit_has_results_and_texts_and_leaves_the_folder_as_it_was(gh: GitHub) -> None:
    Path("params.yaml").write_text("new\n")
    before = git("status", "--porcelain", "--branch")
    commit = retrained("new\n")
    assert git("status", "--porcelain", "--branch") == before
    assert git("diff", "--name-only", "HEAD", commit).split() == ["models/champion.json", "params.yaml"]
    assert git("show", f"{commit}:models/champion.json") == "new" and commits.is_retraining(commit)
    tree = commits.results_tree({Path("models/champion.json"): "new\n"})
    assert commits.commit(tree, "again", [None, "0" * 40, git("rev-parse", "HEAD"), commit]) == commit
    report = commits.commit(commits.tree_with({Path("models/kept.md"): "why\n"}), "kept")
    assert git("diff", "--name-only", "HEAD", report) == "models/kept.md"


def test_a_committer_without_an_author_is_enough(gh: GitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_COMMITTER_NAME", "c")
    monkeypatch.setenv("GIT_COMMITTER_EMAIL", "c@c.c")
    assert git("log", "-1", "--format=%an", retrained("new\n")) == "fedpipe"


@pytest.mark.parametrize("place", [Remote("origin"), Clone()], ids=str)
def test_what_a_person_added_is_not_replaced(gh: GitHub, place: Remote | Clone) -> None:
    assert place.tip(BRANCH) is None
    first, second = retrained("new\n"), retrained("newer\n")
    place.set_branch(BRANCH, first, None)
    assert place.tip(BRANCH) == first
    place.set_branch(BRANCH, second, first)
    with pytest.raises(PipelineError, match="failed: "):
        place.set_branch(BRANCH, retrained("newest\n"), first)  # somebody was faster
    theirs = git("commit-tree", f"{second}^{{tree}}", "-p", second, "-m", "A person's")
    place.set_branch(BRANCH, theirs, second)
    with pytest.raises(PipelineError, match=f"{BRANCH}.* has commits of somebody: merge it, or delete it"):
        place.tip(BRANCH)


@pytest.mark.parametrize("place", [Remote("origin"), Clone()], ids=str)
def test_a_tag_is_set_once_and_never_moves(gh: GitHub, place: Remote | Clone) -> None:
    first, second = retrained("new\n"), retrained("newer\n")
    assert place.commit_of_tag("models/mnist/v1") is None
    for _ in range(2):
        place.set_tag("models/mnist/v1", first)
    assert place.commit_of_tag("models/mnist/v1") == first == git("rev-parse", "models/mnist/v1")
    with pytest.raises(PipelineError):
        place.set_tag("models/mnist/v1", second)
    assert place.commit_of_tag("models/mnist/v1") == first
    git("tag", "--annotate", "--message", "mine", "models/mnist/v2", second)
    if isinstance(place, Remote):
        git("push", "--quiet", "origin", "models/mnist/v2")
        assert place.tags("models/") == ["models/mnist/v1", "models/mnist/v2"] and place.tags("other/") == []
    assert place.commit_of_tag("models/mnist/v2") == second


def test_the_remote_that_was_asked_for_or_origin_or_the_clone(gh: GitHub) -> None:
    assert destination(None) == destination("origin") == Remote("origin")
    with pytest.raises(PipelineError, match="there is no git remote 'backup': add one with"):
        destination("backup")
    git("remote", "remove", "origin")
    assert destination(None) == Clone()


def test_a_pull_request_goes_into_no_branch_of_a_retraining(gh: GitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert base_branch() == "main" and not is_of_retraining()
    git("switch", "--quiet", "--create", BRANCH)
    assert is_of_retraining()
    with pytest.raises(PipelineError, match="check out the branch that the pull request is to go into"):
        base_branch()
    git("switch", "--quiet", "--detach")
    monkeypatch.setenv("GITHUB_REF_NAME", "main")
    assert base_branch() == "main"


def test_git_has_the_token_from_gh_and_only_with_it(gh: GitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "GIT_CONFIG_COUNT" not in credentials()
    monkeypatch.setenv("GH_TOKEN", "secret")
    requested = "protocol=https\nhost=github.com\n\n"
    filled = commands.git("credential", "fill", environment=credentials(), stdin=requested)
    assert "password=secret" in filled.splitlines()
