"""What is said of a champion that git names and the registry lacks, or the other way round; git is real."""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

import layout
from fedpipe.errors import PipelineError
from fedpipe.tracking import champions
from fedpipe.tracking.marker import Marker
from operations.promote import git_champion
from operations.retrain import __main__ as retrain
from operations.retrain.limit import Limit
from tests import RECIPE
from tests.registry_workspace import git

WEIGHTS = "ab" * 32


@dataclass
class Registry:
    """A registry that has no version of the champion that git names."""

    present: str | None = None

    def champion(self, _: str) -> str | None:
        return self.present

    def version_of_weights(self, *_: str) -> None:
        return None


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """In a repository, in which the test stands."""
    registry = Registry()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(layout, "registry", lambda: registry)
    monkeypatch.setattr(champions, "followed", lambda *_: None)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "a")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "a@a.a")
    Path("params.yaml").write_text((RECIPE / "params.yaml").read_text())
    git("init", "--quiet", "--initial-branch", "main")
    return registry


def commit(marker: Marker, results: str) -> None:
    for path, text in ((layout.CHAMPION_MARKER, marker.text()), (layout.TRAINING, results)):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    git("add", "--all")
    git("commit", "--quiet", "--message", "merged")


def test_a_merged_model_that_was_never_registered_is_made_again(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(Marker(weights_sha256=WEIGHTS, model="fedpipe-mnist"), json.dumps({"weights_sha256": WEIGHTS}))
    assert "`make retrain` makes it again, and `make publish` registers it" in git_champion.follow(insist=False)
    assert git_champion.to_register() == WEIGHTS
    with pytest.raises(PipelineError, match=r"in GitHub Actions: the next run of the job retrain\); or restore"):
        git_champion.follow()
    monkeypatch.setattr(champions, "followed", lambda *_: WEIGHTS)  # somebody started anew
    assert git_champion.to_register() is None


def test_while_it_is_made_again_new_batches_wait_and_other_weights_are_an_error(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FEDPIPE_EXPERIMENT", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    commit(Marker(weights_sha256=WEIGHTS, model="fedpipe-mnist"), json.dumps({"weights_sha256": WEIGHTS}))
    monkeypatch.setattr(retrain, "registry_lock", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(retrain, "take_in", lambda _: pytest.fail("a batch would make it another training"))
    retraining = retrain.Retraining(0, Limit(None))
    retraining._follow_git(start_anew=False)
    assert not retraining._take_in()
    retraining._require_champion_of_git()
    layout.TRAINING.write_text(json.dumps({"weights_sha256": "cd" * 32}))
    with pytest.raises(PipelineError, match=r"params have changed since it was trained.*`make champion FROM=\.\.\.`"):
        retraining._require_champion_of_git()


@pytest.mark.parametrize("results", [json.dumps({"weights_sha256": "cd" * 32}), "[]", "not JSON"])
def test_without_its_results_a_missing_champion_stops_a_retraining(registry: Registry, results: str) -> None:
    commit(Marker(weights_sha256=WEIGHTS, model="fedpipe-mnist"), results)
    assert git_champion.to_register() is None
    for insist in (True, False):
        with pytest.raises(PipelineError, match=r"does not have: restore it with `make champion FROM=\.\.\.`"):
            git_champion.follow(insist=insist)


def test_where_git_names_nobody_the_registrys_champion_stays_and_a_sentence_says_so(registry: Registry) -> None:
    commit(Marker(), "{}")
    assert git_champion.follow() == "models/champion.json of HEAD names no champion"
    registry.present = "fedpipe-mnist version 1"
    assert "but fedpipe-mnist version 1 is champion, and stays so" in git_champion.follow()
