"""What the files of a pipeline say of a training."""

import shutil
from pathlib import Path

import layout
from fedpipe.datasets import pool
from fedpipe.tracking.pipeline import TRAINED_BY, UNKNOWN_TAG
from fedpipe.tracking.run_events import flat_params
from tests import RECIPE, ROOT
from tests.recorded import DEFAULTS, record

PIPELINE = layout.pipeline_files()
LEDGER = PIPELINE.pool.ledger
WEIGHTS = {"path": "w", "sha256": "ab" * 32}


def test_a_rebuilt_run_has_the_partitions_figures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    without = PIPELINE.rebuilt({}, {}, WEIGHTS)[-2]
    assert "params" not in without
    Path("metrics").mkdir()
    layout.PARTITION.write_text('{"entropy": {"mean": 1.5}, "sizes": {"gini": 0.25}}')
    params = PIPELINE.rebuilt({}, {}, WEIGHTS)[-2]["params"]
    assert params == {"data.entropy.mean": "1.5", "data.sizes.gini": "0.25"}


def test_a_rebuilt_run_has_the_params_of_the_lock(tmp_path, monkeypatch):
    """params.yaml was edited after the training, or the training was run by hand."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(RECIPE / "params.yaml", tmp_path)
    Path("metrics").mkdir()
    layout.TRAINING.write_text('{"loss": 1.0}')
    record(tmp_path, {"download": [], "partition": [], "train": [layout.TRAINING]})
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("rounds: 10", "rounds: 99").replace("clients: 600", "clients: 5"))

    def rebuilt():
        return PIPELINE.rebuilt(PIPELINE.recorded_params(*TRAINED_BY), {}, WEIGHTS)[0]

    start = rebuilt()
    assert start["name"] == "default recipe" and UNKNOWN_TAG not in start["tags"]
    defaults = flat_params({name: DEFAULTS[name] for name in TRAINED_BY})
    assert start["params"] == {name: value for name, value in defaults.items() if "checkpoint" not in name}
    layout.TRAINING.write_text('{"loss": 2.0}')
    start = rebuilt()
    assert start["name"] == "unknown train" and start["tags"][UNKNOWN_TAG] == "train"
    assert not any(name.startswith("train.") for name in start["params"])


def test_the_version_of_a_pool_that_grew_since_is_not_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    LEDGER.parent.mkdir(parents=True)
    shutil.copy(ROOT / LEDGER, LEDGER)
    shutil.copy(ROOT / "dvc.lock", tmp_path)
    known = str(pool.version(PIPELINE.pool.read_ledger()))
    assert PIPELINE.tags()["fedpipe.pool_version"] == known
    LEDGER.write_text(LEDGER.read_text() + "\n")
    assert PIPELINE.tags()["fedpipe.pool_version"] == "unknown"
