"""The command line of a federation, and what keeps two processes of a site apart."""

from pathlib import Path

import pytest

from fedpipe.errors import PipelineError
from operations.federation import __main__ as command


@pytest.mark.parametrize("name", ["coordinator", "Hospital", "../a", "a.b", "-", "a" * 64])
def test_a_name_that_no_site_can_have_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.arguments(["certificates", "hospital-a"]).names == ["hospital-a"]
    with pytest.raises(SystemExit):
        command.arguments(["certificates", "hospital-a", "--", name])
    assert "no site can be called coordinator" in (output := capsys.readouterr().err) or "lower-case letters" in output


def test_a_second_process_with_the_same_logs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_PATIENCE_SECONDS", 0.0)
    with command.alone(tmp_path / "logs"):
        with (
            pytest.raises(PipelineError, match="another process answers a coordinator with the logs in"),
            command.alone(tmp_path / "logs"),
        ):
            pass
        with command.alone(tmp_path / "others"):
            pass
    with command.alone(tmp_path / "logs"):
        pass
