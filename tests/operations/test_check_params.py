"""params.yaml is checked before DVC looks for the files that it names."""

import subprocess
import sys
from pathlib import Path

from tests import ROOT


def test_a_wrong_name_gets_a_sentence_before_dvc_starts(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    for content, code, said in (
        (text, 0, ""),
        (text.replace("scheme: contiguous", "scheme: dirichlets"), 1, "(did you mean dirichlet?)"),
        (text.replace("scheme: contiguous", "scheme: linear"), 1, "write 'scheme: iid' and 'quantity: linear'"),
    ):
        (tmp_path / "params.yaml").write_text(content, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "operations.check_params"],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == code and said in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_make_repro_checks_first() -> None:
    done = subprocess.run(["make", "-n", "repro"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 0 < done.stdout.index("operations.check_params") < done.stdout.index("dvc repro")
