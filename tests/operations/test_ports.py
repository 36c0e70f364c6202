"""The commands that listen: their default ports differ, and a port that is taken is said before anything starts."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from operations import ports
from tests import ROOT
from tests.fedpipe.tracking.mlflow_project import Project, free_port


def test_default_ports_do_not_collide() -> None:
    defaults = {}
    for command in ("ui", "serve", "server"):
        done = subprocess.run(
            [sys.executable, "-m", f"operations.{command}", "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        (defaults[command],) = re.findall(r"port to listen on \((\d+)\)", done.stdout)
    assert len(set(defaults.values())) == 3, defaults


@pytest.mark.parametrize("command", ["ui", "serve", "server"])
def test_a_taken_port_is_said_before_anything_starts(tmp_path: Path, command: str) -> None:
    dataset = ["--dataset", "mnist"] if command == "serve" else []
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, out, error = Project(tmp_path).run("-m", f"operations.{command}", "--port", port, *dataset)
    assert code == 1 and out == ""
    assert (
        error == f"error: cannot listen on 127.0.0.1:{port} (Address already in use): choose another port with --port\n"
    )
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize("text", ["0", "65536", "-1", "http"])
def test_a_port_is_a_number_from_1_to_65535(text: str) -> None:
    with pytest.raises(ValueError):
        ports.port_number(text)
    assert ports.port_number(str(port := free_port())) == port
