"""Raising `train.rounds` of a finished training: `dvc repro` trains the new rounds only, to the same bits."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.small_pipeline import SMALL, edit, outputs, repro, stages_run

ADAM = "name: adam\n    learning_rate: 0.01"
SCAFFOLD = {
    "  algorithm: fed_avg": "  algorithm: scaffold",
    "server_optimizer:\n    name: sgd\n    learning_rate: 1.0": f"server_optimizer:\n    {ADAM}",
    "  evaluate_every: 1": "  evaluate_every: 2",
}


@pytest.mark.slow
def test_dvc_repro_trains_the_new_rounds_only(clone: Callable[[str], Path], raw: Path) -> None:
    """With the clients' control variates and the server's moments; the end of three rounds was evaluated, too."""
    part, whole = clone("part"), clone("whole")
    edit(part, SMALL | SCAFFOLD | {"  rounds: 10": "  rounds: 3"})
    edit(whole, SMALL | SCAFFOLD | {"  rounds: 10": "  rounds: 5"})
    repro(part, raw)
    edit(part, {"  rounds: 3": "  rounds: 5"})
    text = repro(part, raw)
    assert "continues with round 4 of 5 after a finished training" in text
    assert stages_run(text) == ["train", "evaluate"]
    assert "round 3/5" not in text and "round 4/5" in text
    repro(whole, raw)
    assert outputs(part) == outputs(whole)
    assert (part / "dvc.lock").read_bytes() == (whole / "dvc.lock").read_bytes()
