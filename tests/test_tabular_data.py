"""The worked example of docs/tabular-data.md: a CSV file through the whole pipeline to a served model."""

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML

from tests import ROOT
from tests.small_pipeline import environment
from tests.test_extending import change

pytestmark = pytest.mark.slow

DOCUMENT = (ROOT / "docs/tabular-data.md").read_text(encoding="utf-8")
(SCRIPT,) = re.findall(r"^```python\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
(PARAMS,) = re.findall(r"^```yaml\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
(COMMANDS,) = re.findall(r"^```console\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
PORT = 5391


def run(folder: Path, raw: Path, *command: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env=environment(raw), capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-3000:])
    return done.stdout


def ask(path: str, content: Any = None) -> tuple[int, Any]:
    body = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}/{path}", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_the_commands_of_the_document(clone: Callable[[str], Path], raw: Path) -> None:
    """Each command of make runs the module of its name; the server answers with the probabilities that score writes."""
    folder = clone("patients")
    sha256 = run(folder, raw, sys.executable, "-c", SCRIPT).strip()
    change(folder, YAML(typ="safe").load(PARAMS.replace("SUM", sha256)))
    served = None
    for line in COMMANDS.splitlines():
        match line.split():
            case ["make", "repro"]:
                run(folder, raw, "dvc", "repro")
            case ["make", "serve"]:
                command = [sys.executable, "-m", "operations.serve", "--port", str(PORT)]
                served = subprocess.Popen(command, cwd=folder, env=environment(raw))
            case ["make", name, *options]:
                run(folder, raw, sys.executable, "-m", f"operations.{name}", *(o.split("=")[1] for o in options))
            case ["git", *_]:
                run(folder, raw, "bash", "-c", f"git config user.name t; git config user.email t@example.com; {line}")
    evaluation = json.loads((folder / "metrics/evaluation.json").read_text(encoding="utf-8"))
    assert evaluation["test"]["accuracy"] > 0.93 and evaluation["test"]["auc"] > 0.98 and evaluation["test"]["f1"] > 0.9
    scored = pd.read_csv(folder / "predictions.csv")
    assert list(scored) == ["row", "label", "probability"] and set(scored["label"]) == {"benign", "malignant"}
    try:
        assert served is not None
        _compare_with_server(folder, scored)
    finally:
        served.terminate()
        served.wait(30)


def _compare_with_server(folder: Path, scored: pd.DataFrame) -> None:
    for _ in range(120):
        try:
            ask("ping")
            break
        except OSError:
            time.sleep(0.5)
    rows = pd.read_csv(folder / "data/new-patients.csv").drop(columns="hospital").to_dict("records")
    status, content = ask("invocations", {"inputs": rows})
    assert status == 200, content
    predictions = json.loads(content)["predictions"]
    assert [f"{max(each):.6f}" for each in predictions] == [f"{value:.6f}" for value in scored["probability"]]
    for change_of_row, sentence in (
        ({"mean radius": None}, "column 'mean radius' has no value in 1 of 1 rows"),
        ({"mean radius": "wide"}, "row 0 has in column 'mean radius' a value that is no number"),
        ({"ward": 3}, "row 0 has the column 'ward', which the model does not know"),
    ):
        status, content = ask("invocations", {"inputs": [rows[0] | change_of_row]})
        assert status == 400 and sentence in json.loads(content)["message"], content
