"""``make profile``: a table of where a round's time goes."""

import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from operations import profile
from tests import RECIPE


def test_a_table_with_one_line_per_phase(
    tmp_path: Path, make_shards, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = YAML(typ="safe").load(RECIPE / "params.yaml")
    content["train"] |= {"model": "logistic_regression", "logistic_regression": {}, "evaluate_every": 0, "rounds": 99}
    YAML(typ="safe").dump(content, tmp_path / "params.yaml")
    (tmp_path / "data").mkdir()
    make_shards([20] * 5).rename(tmp_path / "data" / "clients")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["profile", "--rounds", "3"])
    profile.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "fed_avg on logistic_regression, 5 clients per round, 2 rounds"
    rows = {line.split()[0]: line.split()[1:] for line in lines[2:8]}
    assert list(rows) == ["read", "train", "aggregate", "evaluate", "other", "together"]
    parts = [float(rows[name][0]) for name in ("read", "train", "aggregate", "evaluate", "other")]
    assert sum(parts) == pytest.approx(float(rows["together"][0]), abs=0.004)
    assert "clients per second; the worker used" in lines[8]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "params.yaml"]  # nothing is left


def test_too_few_rounds(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["profile", "--rounds", "1"])
    with pytest.raises(SystemExit) as ended:
        profile.main()
    assert ended.value.code == 2 and "1 is no number from 2 on" in capsys.readouterr().err
