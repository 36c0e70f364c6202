"""The audit of the locks, with answers that pip-audit gave (recorded.json), and once with pip-audit itself."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fedpipe.errors import PipelineError
from operations.audit import __main__ as command
from operations.audit import advisories, page
from operations.audit.advisories import Advisory
from operations.audit.lock_audit import PROGRAM, Vulnerability, audit
from operations.audit.news import news
from tests import ROOT
from tests.github_repository import GitHub
from tests.operations.audit.osv_server import osv_server

RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text(encoding="utf-8"))
KNOWN = advisories.load(ROOT / advisories.FILE)
LOCK = ROOT / "requirements.lock"


def pip_audit(folder: Path, answer: Any, code: int = 1, error: str = "") -> Path:
    """A stand-in for pip-audit that gives this answer for requirements.lock, and none for other locks."""
    (folder / "answer.json").write_text(answer if isinstance(answer, str) else json.dumps(answer))
    clean = json.dumps({"dependencies": [{"name": "a", "version": "1", "vulns": []}], "fixes": []})
    program = folder / "pip-audit"
    program.write_text(
        f"#!/bin/sh\ncase \"$*\" in *requirements.lock) cat '{folder}/answer.json';; *) echo '{clean}';; esac\n"
        f"echo '{error}' >&2; exit {code}\n"
    )
    program.chmod(0o755)
    return program


def with_one_more(package: str = "mlflow", fixed: tuple[str, ...] = ("9.0.0",)) -> dict[str, Any]:
    """The recorded answer and an advisory that nobody has looked at."""
    more = {"id": "CVE-2030-1", "fix_versions": fixed, "aliases": [], "description": "@all: `rm`\nreads files"}
    return {"dependencies": [*RECORDED["dependencies"], {"name": package, "version": "3.17.2", "vulns": [more]}]}


def reported(folder: Path, answer: Any) -> list[Vulnerability]:
    return audit(LOCK, program=pip_audit(folder, answer))


def test_every_recorded_advisory_is_known(tmp_path: Path) -> None:
    actual = reported(tmp_path, RECORDED)
    assert {each.package for each in actual} == {"diskcache", "keras", "protobuf", "scipy", "wheel"}
    assert len(actual) == len(KNOWN) and not news(KNOWN, actual)


def test_an_advisory_by_two_names_counts_once(tmp_path: Path) -> None:
    answer = json.loads(json.dumps(RECORDED))
    keras = next(each for each in answer["dependencies"] if each["name"] == "keras")
    again = keras["vulns"][0] | {"id": keras["vulns"][0]["aliases"][0], "aliases": [keras["vulns"][0]["id"]]}
    keras["vulns"].append(again)
    assert len(reported(tmp_path, answer)) == len(KNOWN)


def test_an_unknown_advisory_is_news_with_the_next_step(tmp_path: Path) -> None:
    (item,) = news(KNOWN, reported(tmp_path, with_one_more()))
    assert item.heading == "New advisories"
    assert item.text.startswith(
        "requirements.lock: mlflow 3.17.2: CVE-2030-1: `@all: 'rm' reads files` (corrected in 9"
    )
    assert "make lock UPGRADE=1" in item.text
    (item,) = news(KNOWN, reported(tmp_path, with_one_more(fixed=())))
    assert "no version has a correction" in item.text and str(advisories.FILE) in item.text


def test_a_package_that_moved_is_news(tmp_path: Path) -> None:
    answer = json.loads(json.dumps(RECORDED))
    for dependency in answer["dependencies"]:
        if dependency["name"] == "wheel":
            dependency["version"] = "0.46.0"
        if dependency["name"] == "scipy":
            dependency["vulns"] = []
    changed, over = news(KNOWN, reported(tmp_path, answer))
    assert changed.text.startswith("wheel 0.46.0 still has CVE-2026-24049, which was looked at for 0.45.1")
    assert over.text.startswith("scipy: PYSEC-2023-102 concerns no pinned version: remove it")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            {"dependencies": [*RECORDED["dependencies"], {"name": "torch", "skip_reason": "not found"}]},
            r"1 of 9 packages of .*requirements.lock were not audited: torch \(not found\); run it where",
        ),
        ({"dependencies": []}, "0 of 0 packages"),
        ("", "pip-audit failed on .*requirements.lock: no network"),
    ],
)
def test_what_was_not_audited_is_no_good_news(answer: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=message):
        audit(LOCK, program=pip_audit(tmp_path, answer, error="no network"))


def test_a_missing_pip_audit_is_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"pip-audit is missing: run `make audit`"):
        audit(LOCK, program=tmp_path / "pip-audit")


def test_the_issue_is_opened_commented_and_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    github = GitHub(tmp_path / "github", tmp_path / "remote")
    for name, value in github.environment(github_run := github.start_run()).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["audit", "--issue"])

    def run(answer: Any) -> int:
        program = pip_audit(tmp_path, answer)
        monkeypatch.setattr(command, "audit", lambda lock, service: audit(lock, service, program))
        try:
            command.main()
        except PipelineError:
            return 1
        return 0

    assert run(RECORDED) == 0 and not github.issues
    assert run(with_one_more()) == 1
    (issue,) = github.issues
    assert issue["title"] == "Advisories for the packages pinned on main" and f"runs/{github_run}" in issue["body"]
    assert [label["name"] for label in issue["labels"]] == ["fedpipe-audit"] and "CVE-2030-1" in issue["body"]
    assert run(with_one_more()) == 1 and not github.issues[0]["comments"]
    assert run(with_one_more("dvc")) == 1 and len(github.issues[0]["comments"]) == 1
    assert run(RECORDED) == 0 and github.issues[0]["state"] == "CLOSED" and len(github.issues) == 1
    assert " locks, 17 advisories, 17 in the list" in capfd.readouterr().err


def test_every_lock_is_audited() -> None:
    names = {path.name for path in command.locks(ROOT)}
    assert {"requirements.lock", "cluster.lock", "flare.lock", "audit.lock"} <= names
    assert not {"dvc.lock", "libraries.lock"} & names  # the one is DVC's, the other a part of requirements.lock


def test_the_known_advisories_are_of_the_pinned_versions() -> None:
    pins = dict(re.findall(r"^([\w-]+)==([^\s\\]+)", LOCK.read_text(encoding="utf-8"), re.MULTILINE))
    assert not [each.id for each in KNOWN if pins[each.package] != each.version]


def test_the_page_has_the_table_of_today() -> None:
    content = (ROOT / page.PAGE).read_text(encoding="utf-8")
    assert page.renewed(content) == content, "run `python -m operations.audit.page`"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "CVE-1"}, "0.id: String should match pattern"),
        ({"why": "because"}, "0.why: Extra inputs are not permitted"),
        ({"reachable": "maybe"}, "0.reachable: Input should be 'no', 'shared' or 'file'"),
    ],
)
def test_a_mistake_in_the_list_is_named(change: dict[str, str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "advisories.yaml"
    path.write_text(json.dumps([KNOWN[0].model_dump() | change]))
    with pytest.raises(PipelineError, match=message):
        advisories.load(path)


def test_an_advisory_that_is_listed_twice_is_named(tmp_path: Path) -> None:
    path = tmp_path / "advisories.yaml"
    path.write_text(json.dumps([KNOWN[0].model_dump(), KNOWN[0].model_dump() | {"id": KNOWN[0].aliases[0]}]))
    with pytest.raises(PipelineError, match=r"twice for keras"):
        advisories.load(path)


@pytest.mark.slow
def test_pip_audit_itself_asks_for_every_package_of_the_locks() -> None:
    """An OSV server stands for the public one."""
    subprocess.run(["./environment.sh", "install_audit"], cwd=ROOT, check=True, timeout=300)
    assert (ROOT / PROGRAM).is_file()
    unknown = Advisory.model_validate(KNOWN[0].model_dump() | {"id": "CVE-2030-1", "aliases": [], "package": "mlflow"})
    for served, code in ((KNOWN, 0), ([*KNOWN, unknown], 1)):
        with osv_server(served) as address:
            line = [sys.executable, "-m", "operations.audit", "--service", address]
            done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == code, done.stderr
        assert f" locks, {len(served)} advisories, {len(KNOWN)} in the list" in done.stderr
        assert ("requirements.lock: mlflow 3.17.2: CVE-2030-1" in done.stderr) == bool(code)
