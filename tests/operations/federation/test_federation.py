"""The commands of a federation, with real processes on loopback."""

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from tests import RECIPE, ROOT

SECONDS = 300.0


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "operations.federation", *arguments]


@pytest.fixture
def project(tmp_path: Path, raw: Path) -> Path:
    """A folder with a small model's params and MNIST."""
    text = (RECIPE / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(text.replace("model: baseline_cnn", "model: logistic_regression", 1))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/raw").symlink_to(raw)
    return tmp_path


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def site_of(demo: psutil.Process, name: str) -> psutil.Process:
    """The process of a site."""
    return next(child for child in demo.children() if name in child.cmdline())


@pytest.mark.slow
def test_a_site_that_is_killed_in_a_round_comes_back_to_the_same_bits(project: Path) -> None:
    log = project / "demo.log"
    with log.open("wb") as output:
        demo = subprocess.Popen(
            command("demo", "--sites", "3", "--rounds", "4"),
            cwd=project,
            env=environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    again = None
    try:
        audit = project / "logs/federation-demo/site-2/logs/audit.jsonl"
        end = time.monotonic() + SECONDS
        while not (audit.exists() and '"kind": "pass"' in audit.read_text()):
            assert demo.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.01)
        victim = site_of(psutil.Process(demo.pid), "site-2")
        line = victim.cmdline()
        victim.kill()
        again = subprocess.Popen(line, cwd=project, env=environment(), stdout=subprocess.DEVNULL)
        assert demo.wait(SECONDS) == 0, log.read_text()
    finally:
        for process in (demo, again):
            if process is not None:
                process.terminate()
                process.wait(30)
    printed = log.read_text()
    assert "same bits as the simulation" in printed and printed.count("site-2 is connected") >= 2
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [line["kind"] for line in lines if line["way"] == "in"].count("join") == 2
    sent = sum(line["bytes"] for line in lines if line["way"] == "out")
    assert 0 < sent < 100_000 * 4  # four sums of 7,850 weights and little else


@pytest.mark.slow
@pytest.mark.skipif(find_spec("nvflare") is None, reason="needs `make flare-env`")
def test_a_training_through_nvidia_flare_has_the_bits_of_the_simulation(project: Path) -> None:
    demo = subprocess.run(
        command("demo", "--sites", "3", "--rounds", "3", "--link", "flare"),
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert demo.returncode == 0, demo.stderr
    assert demo.stdout.endswith("same bits as the simulation\n")
    for name in ("site-1", "site-2", "site-3"):
        audit = (project / "logs/federation-demo" / name / "logs/audit.jsonl").read_text().splitlines()
        assert [json.loads(line)["kind"] for line in audit if '"way": "in"' in line].count("pass") == 3


def test_certificates_and_a_missing_policy(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command("--certificates", "certificates", *arguments),
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )

    assert "certificates: wrote certificates/hospital-a.pem" in run("certificates", "hospital-a").stdout
    assert "bring it to the coordinator" in run("revoke", "hospital-a").stdout
    refused = run("site", "127.0.0.1:1", "hospital-a")
    assert refused.returncode == 1 and refused.stderr.startswith("error: policy.yaml is missing")
