"""What a run is told about the params and the code."""

import json

from hypothesis import given
from hypothesis import strategies as st

from fedpipe.pinning import pinned
from fedpipe.tracking import ci, run_events
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
    assert "train.fed_avg" not in params and "{}" not in params.values()


def test_figures_of_the_data_are_params_and_no_metrics():
    event = run_events.results(
        {"data": {"entropy": {"mean": 1.5}}, "test": {"accuracy": 0.5}, "on": "test"}, {}, step=3
    )
    assert event["params"] == {"data.entropy.mean": "1.5"}
    assert event["metrics"] == {"test/accuracy": 0.5} and event["step"] == 3 and event["tags"] == {"on": "test"}


def test_a_retraining_s_run_has_the_week_in_its_name_and_is_the_same_run_a_week_later(monkeypatch):
    for name in ("FEDPIPE_WEEK", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    by_hand = run_events.start(STARTED, {})
    assert by_hand["name"] == "a run" and "fedpipe.week" not in by_hand["tags"]
    kept = pinned({"FEDPIPE_WEEK": "2026-W48", "GITHUB_RUN_ID": "7"})  # as stages get it
    assert kept["GITHUB_RUN_ID"] == "7"
    monkeypatch.setenv("FEDPIPE_WEEK", kept["FEDPIPE_WEEK"])
    weekly = run_events.start(STARTED, {})
    assert weekly["name"] == "2026-W48 a run" and weekly["tags"]["fedpipe.week"] == "2026-W48"
    assert run_events.same_run(weekly) == run_events.same_run(by_hand)
    monkeypatch.setenv("FEDPIPE_WEEK", "anything")
    assert run_events.start(STARTED, {})["name"] == "a run"


def test_the_ci_run_is_a_tag_in_any_ci(monkeypatch):
    for name in ("CI_JOB_URL", "BUILD_URL", "BUILDKITE_BUILD_URL", "GITHUB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    assert ci.tags() == {}
    monkeypatch.setenv("CI_JOB_URL", "https://gitlab.example/a/b/-/jobs/7")
    assert ci.tags() == {"fedpipe.ci_run": "https://gitlab.example/a/b/-/jobs/7"}
    for name, value in {"SERVER_URL": "https://github.example", "REPOSITORY": "a/b", "RUN_ID": "7"}.items():
        monkeypatch.setenv(f"GITHUB_{name}", value)
    assert ci.tags() == {"fedpipe.ci_run": "https://github.example/a/b/actions/runs/7"}
