"""Plain `dvc repro` runs stage after stage; each of them first refuses a mistake in any section of params.yaml."""

from importlib import import_module
from pathlib import Path

import pytest

from fedpipe.errors import PipelineError
from tests import RECIPE

PARAMS = (RECIPE / "params.yaml").read_text(encoding="utf-8")
MISTAKES = {
    "download": ("connect_timeout: 10", "connect_timeout: soon", r"'download\.connect_timeout' is 'soon'"),
    "partition": ("scheme: contiguous", "scheme: contigous", r"'partition\.scheme' .* \(did you mean contiguous\?\)"),
    "train": ("rounds: 10", "round: 10", r"unknown key 'train\.round' \(did you mean rounds\?\)"),
    "evaluate": ("batch_size: 1000", "batch_size: 0", r"'evaluate\.batch_size' is 0"),
    "promote": ("require: not_worse", "require: no", r"'promote\.mcnemar\.require'"),
    "tell": ("  - failed\n", "  - faild\n", r"'tell\.issue_on\.0' is 'faild'"),
    "all": ("clients_per_round: all", "clients_per_round: 601", "is 601, but there are 600 clients"),
}


@pytest.mark.parametrize("stage", ["download", "partition", "train", "evaluate"])
@pytest.mark.parametrize("section", MISTAKES)
def test_a_stage_refuses_a_mistake_in_any_section(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, section: str
) -> None:
    old, new, reason = MISTAKES[section]
    assert old in PARAMS
    (tmp_path / "params.yaml").write_text(PARAMS.replace(old, new, 1), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError, match=reason):
        import_module(f"stages.{stage}").main()
