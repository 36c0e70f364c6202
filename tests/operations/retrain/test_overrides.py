"""Params set from the command line: in place, comments kept, or refused with nothing written."""

from pathlib import Path

import pytest

from fedpipe import params
from fedpipe.errors import PipelineError
from operations.retrain import overrides
from tests import RECIPE

DEFAULTS = (RECIPE / "params.yaml").read_text(encoding="utf-8")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(DEFAULTS, encoding="utf-8")
    return path


def test_only_the_value_changes(file: Path) -> None:
    settings = ["train.rounds=5", "train.init=champion", "train.client_optimizer.learning_rate=1e-3", "train.seed=2024"]
    assert overrides.apply([*settings, "promote.accuracy_margin=0.0"], file) == settings[:3]
    loaded = params.load(params.Train, file)
    assert (loaded.rounds, loaded.init, loaded.client_optimizer.learning_rate) == (5, "champion", 1e-3)
    old, new = DEFAULTS.splitlines(), file.read_text(encoding="utf-8").splitlines()
    changed = [(a.split("#")[0], b.split("#")[0]) for a, b in zip(old, new, strict=True) if a != b]
    assert [before.split(":")[0].strip() for before, _ in changed] == ["rounds", "learning_rate", "init"]
    assert [line.split("#")[1:] for line in old] == [line.split("#")[1:] for line in new]


def test_nothing_to_set_writes_nothing(file: Path) -> None:
    before = file.stat().st_mtime_ns
    assert overrides.apply([], file) == [] and overrides.apply(["train.rounds=10"], file) == []
    assert file.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "train.rounds=0",
            "with train.batch_size=7 train.rounds=0, .*params.yaml: 'train.rounds' is 0: .*is as it was",
        ),
        ("train.rounds=ten", "'train.rounds' is 'ten': should be a valid integer"),
        (
            "train.rouns=5",
            r"'train.rouns=5' sets nothing: params.yaml has no key 'train.rouns' \(did you mean rounds\?\)",
        ),
        ("trian.rounds=5", r"has no key 'trian.rounds' \(did you mean train\?\)"),
        ("train.rounds.more=5", "has no key 'train.rounds.more'"),
        ("rounds", "give key=value, such as train.rounds=5"),
        ("train.rounds=[5", "is not a YAML value"),
        ("train.rounds=true", "'train.rounds' is True"),
    ],
)
def test_refused_with_nothing_written(file: Path, setting: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        overrides.apply(["train.batch_size=7", setting], file)
    assert file.read_text(encoding="utf-8") == DEFAULTS
