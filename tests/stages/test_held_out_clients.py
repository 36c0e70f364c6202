"""Clients that never train, through the stages: the same weights as without them, and figures of their own."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fedpipe.datasets.shards import Manifest, Shards
from fedpipe.errors import PipelineError
from fedpipe.params import validate
from tests import RECIPE
from tests.small_pipeline import SMALL, edit, outputs, repro, stages_run

HELD_OUT = "  held_out_clients: 0"
OTHERS = SMALL | {
    "  clients_per_round: all": "  clients_per_round: 150",
    HELD_OUT: "  held_out_clients: 0.2",
    "  client_rounds: false": "  client_rounds: true",
    "    epochs: 0": "    epochs: 1",
}


def weights_of_clients(project: Path) -> dict[str, str]:
    """Writes a table of weights from 1 to 3; the changes of params.yaml that read it."""
    content = "client,weight\n" + "".join(f"{client},{1 + client % 3}\n" for client in range(250))
    (project / "weights.csv").write_text(content, encoding="utf-8")
    section = (project / "params.yaml").read_text(encoding="utf-8").partition("  client_weights:")[2]
    old = "  client_weights:" + section.partition("  client_rounds:")[0]
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    new = old.replace("table: ''", "table: weights.csv").replace("sha256: ''", f"sha256: {sha256}")
    return {"  client_weighting: examples": "  client_weighting: per_client", old: new}


@pytest.mark.slow
def test_they_are_measured_and_nobody_trains_on_them(clone: Callable[[str], Path], raw: Path) -> None:
    project = clone("held_out")
    edit(project, OTHERS | weights_of_clients(project))
    assert stages_run(repro(project, raw))[-3:] == ["partition", "train", "evaluate"]
    training, others = (Manifest.read(project / f"data/{name}") for name in ("clients", "held_out_clients/clients"))
    assert (training.clients, others.clients) == (200, 50)
    assert sorted([*training.client_numbers, *others.client_numbers]) == list(range(250))
    assigned = pd.read_csv(project / "data/clients/assignment.csv")["client"].dropna()
    assert set(assigned.astype(int)) == set(training.client_numbers)
    clients = pd.read_csv(project / "metrics/clients.csv")
    never = clients[clients["held_out_accuracy"].notna()]
    assert clients["client"].tolist() == list(range(250)) and never["client"].tolist() == list(others.client_numbers)
    assert never["train_accuracy"].isna().all() and clients["train_accuracy"].notna().sum() == 200
    evaluation = json.loads((project / "metrics/evaluation.json").read_text())
    figures = evaluation["clients"]["held_out"]
    assert figures["mean"] == pytest.approx(never["held_out_accuracy"].mean()) and figures["samples"] == others.samples
    assert figures["worst"] == never["held_out_accuracy"].min()
    tuned = figures["own_tests"]["personalised"]["mean"]
    assert tuned == pytest.approx(never["held_out_personalised_accuracy"].mean())
    rounds = pd.read_csv(project / "metrics/rounds.csv")
    assert rounds["held_out_accuracy"].iloc[-1] == pytest.approx(figures["mean"])
    drawn = pd.read_csv(project / "metrics/client_rounds.csv")
    assert len(drawn) == 300 and set(drawn["client"]) <= set(training.client_numbers)
    assert (drawn["weight"] == 1 + drawn["client"] % 3).all()  # those of the table, by the clients' numbers
    shards = Shards.open(project / "data/held_out_clients/clients")
    assert np.diff(shards.offsets).tolist() == never["held_out_samples"].astype(int).tolist()

    before = outputs(project)
    assert stages_run(repro(project, raw)) == []
    edit(
        project,
        {"  held_out_clients: 0.2": "  held_out_clients: 50", "  client_rounds: true": "  client_rounds: false"},
    )
    assert stages_run(repro(project, raw)) == ["partition", "train", "evaluate"]
    changed = {name for name, content in outputs(project).items() if before[name] != content}
    assert changed == {"metrics/client_rounds.csv"}
    assert (project / "metrics/client_rounds.csv").read_text().count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({HELD_OUT: "  held_out_clients: 600"}, "is 600, which leaves none to train of 600"),
        ({HELD_OUT: "  held_out_clients: 0.0001"}, "is 0.0001, which holds out no client of 600"),
        ({HELD_OUT: "  held_out_clients: 1.5"}, "'evaluate.held_out_clients' is 1.5: "),
        (
            {
                "  held_out_clients: 0": "  held_out_clients: 0.5",
                "  clients_per_round: all": "  clients_per_round: 301",
            },
            "'train.clients_per_round' is 301, but there are 300 clients",
        ),
        (
            {HELD_OUT: "  held_out_clients: 5", "  sites: #": "  sites: [300, 300] #"},
            "with 'partition.sites' each site decides which of its clients train",
        ),
        (
            {
                "  held_out_clients: 0": "  held_out_clients: 5",
                "  cohort: uniform": "  cohort: fixed",
                "ids: []": "ids: [1]",
            },
            "and 'train.cohort' fixed names those that do",
        ),
    ],
)
def test_what_cannot_be_held_out_is_refused_before_any_stage(
    tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    text = (RECIPE / "params.yaml").read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new, 1)
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(PipelineError, match=re.escape(message)):
        validate(tmp_path / "params.yaml")
