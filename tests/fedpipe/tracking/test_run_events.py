"""What a run is told about the params and the code."""

import json

from hypothesis import given
from hypothesis import strategies as st

from fedpipe.tracking import run_events
from tests import ROOT
from tests.recorded import DEFAULTS

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


def test_a_run_of_before_the_quantities_has_a_name():
    """Its `partition.quantity` was a section, as the dvc.lock of such a revision has it."""
    partition = {"scheme": "linear", "clients": 5, "quantity": {"labels": "iid", "min_size": 1}}
    params = {"train": {"model": "seed_cnn", "rounds": 2}, "partition": partition}
    assert run_events.run_name(params) == "seed_cnn linear 5 clients 2 rounds"
    partition["quantity"] = "lognormal"
    assert run_events.run_name(params) == "seed_cnn linear lognormal 5 clients 2 rounds"
    params["train"]["algorithm"] = "scaffold"
    assert run_events.run_name(params) == "scaffold seed_cnn linear lognormal 5 clients 2 rounds"


def test_metrics_have_the_samples_in_front_and_slashes_so_that_the_ui_folds_them():
    event = run_events.round_metrics(
        3, {"train_loss": 1.0, "validation_accuracy": 0.5, "test_clients_accuracy": 0.25, "bytes_up": 2, "tester": 1}
    )
    assert event["metrics"] == {
        "train/loss": 1,
        "validation/accuracy": 0.5,
        "test/clients_accuracy": 0.25,
        "bytes_up": 2,
        "tester": 1,
    }
    results = run_events.results({"test": {"accuracy": 0.5, "recall": {"0": 1}}, "selected_on": "test"}, {}, step=3)
    assert results["metrics"] == {"test/accuracy": 0.5, "test/recall/0": 1} and results["step"] == 3
    assert results["tags"] == {"selected_on": "test"}
