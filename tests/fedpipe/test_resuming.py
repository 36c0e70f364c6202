"""Each algorithm, aggregator, attack, compressor and cohort that is killed in a round resumes to the same bits."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.fedpipe.resuming import BEFORE, ROUNDS, wanted


@pytest.fixture(scope="module")
def results(small_images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What tests/fedpipe/resuming.py found, by what it trained."""
    output = tmp_path_factory.mktemp("resuming") / "found.json"
    command = [sys.executable, "-m", "tests.fedpipe.resuming", str(small_images), str(output)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=1200)
    results: dict[str, dict[str, Any]] = json.loads(output.read_text())
    assert len({result["whole"] for result in results.values()}) == len(results)
    return results


@pytest.mark.slow
@pytest.mark.parametrize("name", wanted())
def test_a_killed_training_goes_on_to_the_same_bits(results: dict[str, dict[str, Any]], name: str) -> None:
    result = results[name]
    assert 1 <= result["checkpoint"] < result["killed_in"] <= ROUNDS and result["killed_in"] > BEFORE
    assert result["digest"] == result["whole"]
