"""Ten weeks of a team that retrains: good, bad and mislabelled batches, kills, merges, a lost state, a rollback.

The workflow's own steps, in fresh shallow clones, on real MNIST. The weeks are one story, so they are one test.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.play.workflow import Team
from tests.small_pipeline import edit

pytestmark = pytest.mark.slow

PARAMS = {
    "  scheme: contiguous": "  scheme: iid",
    "  clients: 600": "  clients: 50",
    "  leave_out: 0": "  leave_out: 55000",
    "  rounds: 10": "  rounds: 3",
    "    learning_rate: 0.02": "    learning_rate: 0.1",
}


@pytest.fixture(scope="module")
def team(clone: Callable[[str], Path], raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Team:
    project = clone("play")
    edit(project, PARAMS)
    folder = tmp_path_factory.mktemp("team")
    import subprocess

    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@a.a", "commit", "-qam", "our params"], cwd=project, check=True
    )
    return Team(folder, project, raw)


def test_ten_weeks(team: Team, training_set: tuple[np.ndarray, np.ndarray]) -> None:
    job = team.retrain()
    for step in job.steps:
        print("$", step.command, step.code, "\n", step.said[-2500:])
    print(job.uploaded, job.seconds)
    assert job.succeeded
