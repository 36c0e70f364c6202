"""What dvc.lock says of params and outputs: whole sections, single keys, and files that changed since."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpipe.dvc_lock import Lock, tree
from fedpipe.errors import PipelineError
from fedpipe.tracking.run_events import flatten
from tests import ROOT
from tests.recorded import DEFAULTS, record


def test_the_committed_lock_has_a_place_for_every_param() -> None:
    recorded = Lock.read(ROOT / "dvc.lock")
    params = recorded.params()
    assert set(params) == {"download", "partition", "train", "evaluate"} <= set(recorded.stages)
    assert isinstance(params["train"]["rounds"], int) and isinstance(params["train"]["client_optimizer"], dict)
    assert recorded.params(["evaluate"]) == {"evaluate": params["evaluate"]} and recorded.params(["none"]) == {}


def test_single_keys_and_sections_are_one_tree() -> None:
    """As DVC records `params: [train.rounds, train.optimizer.name, train.optimizer, data]`, in any order."""
    recorded = {
        "train.rounds": 3,
        "train.optimizer.name": "sgd",
        "train.optimizer": {"rate": 0.1},
        "data": {"a": {"b": None}},
        "train.fed_prox": {"mu": 1.0},
    }
    expected = {
        "train": {"rounds": 3, "optimizer": {"name": "sgd", "rate": 0.1}, "fed_prox": {"mu": 1.0}},
        "data": {"a": {"b": None}},
    }
    assert tree(recorded.items()) == tree(reversed(recorded.items())) == expected
    lock = Lock({"train": {"cmd": "x", "params": {"params.yaml": recorded}}, "plain": {"cmd": "x"}})
    assert lock.params() == expected and lock.params(["plain"]) == {}


keys = st.text("abc", min_size=1, max_size=2)
trees = st.recursive(
    st.dictionaries(keys, st.text("xyz"), min_size=1, max_size=3),
    lambda inner: st.dictionaries(keys, st.text("xyz") | inner, min_size=1, max_size=3),
    max_leaves=8,
)


@given(trees)
def test_nesting_undoes_flattening(params: dict) -> None:
    assert tree(flatten(params).items()) == params


def test_a_file_that_changed_since_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = Path("table.csv")
    table.write_text("a,b\n")
    record(tmp_path, {"train": [table]})
    lock = Lock.read(Path("dvc.lock"))
    assert lock.is_of_the_files("train") and not lock.is_of_the_files("evaluate")
    assert lock.params() == {"train": DEFAULTS["train"]}
    table.write_text("a,c\n")
    assert not lock.is_of_the_files("train")
    table.unlink()
    assert lock.is_of_the_files("train")  # nothing here is another training's


@pytest.mark.parametrize("content", ["a: 1\n", "stages: [1]\n", "stages: {train: 1}\n"])
def test_a_file_that_dvc_did_not_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError, match=r"dvc\.lock is missing, which says what results were made with: run `dvc"):
        Lock.read(Path("dvc.lock"))
    Path("dvc.lock").write_text(content)
    with pytest.raises(PipelineError, match=r"dvc\.lock is not as DVC writes it: restore it with `git checkout"):
        Lock.read(Path("dvc.lock"))
