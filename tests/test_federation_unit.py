"""The systemd unit of a site is well-formed, and starts what there is."""

import configparser
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from operations.federation.__main__ import arguments
from tests import ROOT

UNIT = ROOT / "docs/federation/fedpipe-site.service"


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(UNIT.read_text(encoding="utf-8"))
    return parser


def test_it_starts_commands_that_there_are_as_a_user_without_rights() -> None:
    service = unit()["Service"]
    commands = [shlex.split(service[key].removeprefix("-")) for key in ("ExecStartPre", "ExecStart")]
    parsed = []
    for python, *rest in commands:
        assert python == f"{service['WorkingDirectory']}/.venv/bin/python"
        assert rest[:2] == ["-m", "operations.federation"]
        parsed.append(arguments(rest[2:]))
    assert [each.command for each in parsed] == ["expiry", "site"] and parsed[0].name == parsed[1].name
    assert service["User"] != "root" and service["NoNewPrivileges"] == "yes" and not service["CapabilityBoundingSet"]
    assert service["Restart"] == "always" and service["ProtectSystem"] == "strict"


def test_the_site_can_write_what_it_writes() -> None:
    service, site = unit()["Service"], arguments(["site", "a:1", "hospital-a"])
    writable = service["ReadWritePaths"].split()
    for path in (site.logs, site.personal):
        assert any((Path(service["WorkingDirectory"]) / path).is_relative_to(folder) for folder in writable)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_takes_it(tmp_path: Path) -> None:
    text = UNIT.read_text(encoding="utf-8").replace("/opt/fedpipe/.venv/bin/python", "/bin/true")
    (tmp_path / UNIT.name).write_text(text)
    checked = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / UNIT.name)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0 and UNIT.name not in checked.stderr, checked.stderr
