"""Whose weights training starts from: chosen once for a data set and its pool, and never another data set's."""

import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

import layout
from fedpipe import params
from fedpipe.datasets import pool
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import PipelineError
from fedpipe.runtime.initial import Pointer
from fedpipe.tracking import champions
from layout import INITIAL_POINTER
from operations.retrain import initial
from tests import RECIPE
from tests.registry_workspace import Workspace


def test_another_data_sets_champion_is_not_taken_for_this_ones(
    raw: Path, empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty_database, tmp_path)
    settings = params.load(params.Train, RECIPE / "params.yaml").model_copy(update={"init": "champion"})
    partition = params.load(params.Partition, RECIPE / "params.yaml")
    mnist = RawDataset.read(raw)
    INITIAL_POINTER.parent.mkdir()
    chosen = Pointer(sha256="ab" * 32, model="fedpipe-mnist", version=3, pool=pool.digest([]))
    INITIAL_POINTER.write_text(chosen.model_dump_json())

    assert initial.choose(settings, partition, mnist, []) is None
    with pytest.raises(PipelineError, match="the model registry has no champion for fashion_mnist"):
        initial.choose(settings, partition, mnist.model_copy(update={"name": "fashion_mnist"}), [])


@pytest.mark.parametrize(
    ("then", "now", "is_refused"),
    [
        ({"validation": 100}, {"validation": 100}, False),
        pytest.param({"validation": 100}, {"validation": 50}, False, marks=pytest.mark.slow),
        pytest.param({"validation": 100}, {"validation": 0, "seed": 1}, False, marks=pytest.mark.slow),
        pytest.param({"validation": 50}, {"validation": 100}, True, marks=pytest.mark.slow),
        pytest.param({"validation": 100}, {"validation": 100, "seed": 1}, True, marks=pytest.mark.slow),
        ({}, {"validation": 100}, True),
    ],
)
def test_a_champion_that_trained_on_validation_samples_is_no_start(
    workspace: Workspace, then: dict[str, int], now: dict[str, int], is_refused: bool
) -> None:
    text = (RECIPE / "params.yaml").read_text()
    for key, value in then.items():
        text = text.replace(f"{key}: 0 #", f"{key}: {value} #", 1)
    Path("params.yaml").write_text(text)
    workspace.register("weak")
    champion = layout.registry().challenger("mnist")
    assert champion is not None
    champions.promote(layout.registry(), "mnist", champion.number, None)
    partition = params.load(params.Partition, RECIPE / "params.yaml").model_copy(update=now)
    initial._require_unseen_validation(params.load(params.Partition, layout.PARAMS), champion)
    with ExitStack() as stack:
        if is_refused:
            message = r"trained with 'partition\.validation' \d+ and 'partition\.seed' 2024, and so on samples"
            stack.enter_context(pytest.raises(PipelineError, match=message))
        initial._require_unseen_validation(partition, champion)


@pytest.mark.slow
def test_a_champion_that_trained_on_held_out_clients_is_no_start(workspace: Workspace) -> None:
    text = (RECIPE / "params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("held_out_clients: 0 #", "held_out_clients: 60 #", 1))
    workspace.register("weak")
    champion = layout.registry().challenger("mnist")
    partition = params.load(params.Partition, layout.PARAMS)
    initial._require_unseen_clients(partition, 60, champion)
    initial._require_unseen_clients(partition, 0, champion)
    with pytest.raises(PipelineError, match=r"with another 'evaluate\.held_out_clients' \(60\), and so perhaps"):
        initial._require_unseen_clients(partition, 0.2, champion)
    with pytest.raises(PipelineError, match=r"trained with another 'partition\.seed' \(2024\), and so perhaps"):
        initial._require_unseen_clients(partition.model_copy(update={"seed": 1}), 60, champion)
