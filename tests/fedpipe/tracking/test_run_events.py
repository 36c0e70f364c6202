"""What a run is told about the params and the code."""

import json
import shutil
import subprocess
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fedpipe.tracking import run_events
from tests import ROOT
from tests.recorded import DEFAULTS, record

STARTED = {"name": "a run", "dataset": {"name": "mnist", "digest": "ab" * 32, "source": "data/clients"}}

keys = st.text("abc_", min_size=1, max_size=3)
leaves = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False), st.lists(st.integers(), max_size=3))
trees = st.recursive(
    st.dictionaries(keys, leaves, max_size=3), lambda t: st.dictionaries(keys, leaves | t, max_size=3), max_leaves=8
)


@given(trees)
def test_flattening_loses_nothing(tree):
    back: dict = {}
    for name, value in run_events.flatten(tree).items():
        *folders, key = name.split(".")
        place = back
        for folder in folders:
            place = place.setdefault(folder, {})
        place[key] = json.loads(value)
    assert back == tree


def test_params_have_dotted_names(monkeypatch):
    monkeypatch.chdir(ROOT)
    params = run_events.start(STARTED | {"params": DEFAULTS}, {})["params"]
    assert params["train.client_optimizer.learning_rate"] == "0.02"
    assert params["partition.scheme"] == "contiguous"
    assert json.loads(params["download.sources.mnist"])[0].startswith("https://")


def test_git_tags(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert set(run_events.git_tags().values()) == {"unknown: no git repository"}
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        assert set(run_events.git_tags().values()) == {"unknown: git is not installed"}
    for name in ("params.yaml", "dvc.lock", "metrics/rounds.csv"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("1")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "1"]):
        subprocess.run([*git, *command], check=True)
    assert run_events.git_tags()["fedpipe.git_dirty"] == "false"
    assert len(run_events.git_tags()["mlflow.source.git.commit"]) == 40
    Path("metrics/rounds.csv").unlink()  # as DVC does before the stage runs
    assert run_events.git_tags()["fedpipe.git_dirty"] == "false"
    Path("params.yaml").write_text("2")
    assert run_events.git_tags()["fedpipe.git_dirty"] == "true"


def test_a_rebuilt_run_has_the_partitions_figures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    without = run_events.rebuilt({}, {}, {"path": "w", "sha256": "ab" * 32})[-2]
    assert not any(name.startswith("partition") for name in without["metrics"])
    Path("metrics").mkdir()
    run_events.PARTITION.write_text('{"entropy": {"mean": 1.5}, "sizes": {"gini": 0.25}}')
    metrics = run_events.rebuilt({}, {}, {"path": "w", "sha256": "ab" * 32})[-2]["metrics"]
    assert metrics == without["metrics"] | {"partition.entropy.mean": 1.5, "partition.sizes.gini": 0.25}


def test_a_rebuilt_run_has_the_params_of_the_lock(tmp_path, monkeypatch):
    """params.yaml was edited after the training, or the training was run by hand."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    Path("metrics").mkdir()
    run_events.SUMMARY.write_text('{"loss": 1.0}')
    record(tmp_path, {"download": [], "partition": [], "train": [run_events.SUMMARY]})
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("rounds: 10", "rounds: 99").replace("clients: 600", "clients: 5"))

    def rebuilt():
        return run_events.rebuilt(
            run_events.recorded_params(*run_events.TRAINED_BY), {}, {"path": "w", "sha256": "ab" * 32}
        )[0]

    start = rebuilt()
    assert (
        start["name"] == "baseline_cnn contiguous 600 clients 10 rounds" and run_events.UNKNOWN_TAG not in start["tags"]
    )
    defaults = run_events.flatten({name: DEFAULTS[name] for name in run_events.TRAINED_BY})
    assert start["params"] == {name: value for name, value in defaults.items() if "checkpoint" not in name}
    run_events.SUMMARY.write_text('{"loss": 2.0}')
    start = rebuilt()
    assert start["name"] == "? contiguous 600 clients ? rounds" and start["tags"][run_events.UNKNOWN_TAG] == "train"
    assert not any(name.startswith("train.") for name in start["params"])


def test_the_version_of_a_pool_that_grew_since_is_not_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_events.pool.LEDGER.parent.mkdir(parents=True)
    shutil.copy(ROOT / run_events.pool.LEDGER, run_events.pool.LEDGER)
    shutil.copy(ROOT / "dvc.lock", tmp_path)
    known = str(run_events.pool.version(run_events.pool.read_ledger()))
    assert run_events.start(STARTED, {})["tags"]["fedpipe.pool_version"] == known
    run_events.pool.LEDGER.write_text(run_events.pool.LEDGER.read_text() + "\n")
    assert run_events.start(STARTED, {})["tags"]["fedpipe.pool_version"] == "unknown"


def test_a_run_of_before_the_quantities_has_a_name():
    """Its `partition.quantity` was a section, as the dvc.lock of such a revision has it."""
    partition = {"scheme": "linear", "clients": 5, "quantity": {"labels": "iid", "min_size": 1}}
    params = {"train": {"model": "seed_cnn", "rounds": 2}, "partition": partition}
    assert run_events.run_name(params) == "seed_cnn linear 5 clients 2 rounds"
    partition["quantity"] = "lognormal"
    assert run_events.run_name(params) == "seed_cnn linear lognormal 5 clients 2 rounds"
    params["train"]["algorithm"] = "scaffold"
    assert run_events.run_name(params) == "scaffold seed_cnn linear lognormal 5 clients 2 rounds"
