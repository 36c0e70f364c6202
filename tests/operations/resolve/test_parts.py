"""The parts of a merge: params key by key, ledgers batch by batch, and the sentence about conflicts."""

import json
from pathlib import Path

import pytest

from fedpipe import unmerged
from fedpipe.config import parse_text
from fedpipe.datasets.pool import Entry, Pool
from fedpipe.errors import PipelineError, run_stage
from fedpipe.json_model import read_json
from operations.resolve import ledger, params
from operations.resolve.conflicts import Conflict, Side
from tests import RECIPE

BASE = (RECIPE / "params.yaml").read_text(encoding="utf-8")
MARKS = "<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> other\n"


def changed(**values: str) -> str:
    text = BASE
    for key, value in values.items():
        lines = [line for line in BASE.splitlines() if line.startswith(f"  {key}: ")]
        text = text.replace(lines[0], f"  {key}: {value}", 1)
    return text


def merge(ours: str, theirs: str, side: Side | None = None, **by_key: Side) -> dict:
    conflict = Conflict("params.yaml", BASE, ours, theirs)
    return parse_text(params.merged(conflict, side, {k.replace("_of_", "."): v for k, v in by_key.items()}), "merged")


def test_what_only_one_side_changed_stays_whatever_side_is_chosen() -> None:
    """Neighbouring lines: git calls them one conflict."""
    ours, theirs = changed(local_epochs="3", batch_size="10"), changed(shuffle="true", batch_size="40")
    sides: dict[Side, int] = {"ours": 10, "theirs": 40}
    for side, batch_size in sides.items():
        train = merge(ours, theirs, side)["train"]
        assert (train["local_epochs"], train["shuffle"], train["batch_size"]) == (3, True, batch_size)


def test_a_choice_is_asked_for_only_where_both_sides_changed_a_key() -> None:
    train = merge(changed(local_epochs="3"), changed(batch_size="40"))["train"]
    assert (train["local_epochs"], train["batch_size"]) == (3, 40)
    with pytest.raises(PipelineError, match=r"train\.batch_size \(ours 10, theirs 40, before 20\).*--params ours"):
        merge(changed(batch_size="10"), changed(batch_size="40"))
    both = changed(batch_size="10", local_epochs="2"), changed(batch_size="40", local_epochs="3")
    train = merge(*both, "ours", train_of_batch_size="theirs")["train"]
    assert (train["local_epochs"], train["batch_size"]) == (2, 40)
    with pytest.raises(PipelineError, match=r"no choice for train\.rounds"):
        merge(*both, "ours", train_of_rounds="theirs")


def test_comments_of_both_sides_and_a_removed_section_survive() -> None:
    ours = changed(batch_size="10 # of the lab").replace("  squared_error: {}\n", "")
    theirs = changed(batch_size="40").replace("  seed: 2024", "  seed: 2025 # drawn by lot", 1)
    text = params.merged(Conflict("params.yaml", BASE, ours, theirs), "ours", {})
    assert "# of the lab" in text and "# drawn by lot" in text and "squared_error: {}" not in text


def test_params_that_do_not_go_together_are_refused() -> None:
    ours = changed(cohort="fixed").replace("    ids: []", "    ids: [599]")
    theirs = changed(clients="100", cohort="by_size")
    with pytest.raises(PipelineError, match=r"changes of both sides do not go together: params\.yaml"):
        merge(ours, theirs, "ours")


def entry(version: int, batch: str, digit: int) -> Entry:
    return Entry(version=version, dataset="mnist", batch=batch, samples=10, sha256=f"{digit:064}")


def test_the_ledger_has_the_batches_of_both_sides_in_order_with_versions_counted_on() -> None:
    base = [entry(1, "a", 1), entry(2, "b", 2)]
    ours = [base[0], entry(3, "c", 3)]  # a commit that brought b was reverted
    theirs = [*base, entry(3, "d", 4), entry(3, "e", 5), entry(4, "f", 6), entry(5, "c-again", 3)]
    union = ledger.union(base, ours, theirs)
    assert [(e.version, e.batch) for e in union] == [(1, "a"), (3, "c"), (4, "d"), (4, "e"), (5, "f")]
    assert ledger.union(base, theirs, ours)[0] == base[0] and "b" not in [
        e.batch for e in ledger.union(base, theirs, ours)
    ]
    with pytest.raises(PipelineError, match="both sides added a batch c to mnist, with other samples"):
        ledger.union(base, ours, [*base, entry(3, "c", 9)])


def test_readers_name_the_command_for_files_in_conflict(tmp_path: Path) -> None:
    message = "has conflicts of a merge: `make resolve` settles them"
    with pytest.raises(PipelineError, match=message):
        parse_text(MARKS, "params.yaml")
    (tmp_path / "ledger.csv").write_text(MARKS)
    with pytest.raises(PipelineError, match=message):
        Pool(tmp_path).read_ledger()
    with pytest.raises(PipelineError, match=message):
        read_json(Entry, tmp_path / "ledger.csv", missing="", wrong="")
    assert not unmerged.has_marks("In Markdown: `<<<<<<< HEAD`")


def test_an_unexpected_error_keeps_its_traceback_unless_there_are_conflicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(json.JSONDecodeError):
        run_stage(lambda: json.loads(MARKS))
    monkeypatch.setattr(unmerged, "files", lambda: ["metrics/training.json", "dvc.lock"])
    with pytest.raises(SystemExit, match=r"^error: metrics/training.json, dvc.lock have conflicts of a merge"):
        run_stage(lambda: json.loads(MARKS))
