"""What people read first of a run: its name, its description, and the sections of its metrics."""

from copy import deepcopy
from typing import Any

import pytest

from fedpipe.tracking import naming
from fedpipe.tracking.run_events import round_metrics
from tests.recorded import DEFAULTS


def changed(**values: Any) -> dict[str, Any]:
    params = deepcopy(DEFAULTS)
    for key, value in values.items():
        section, _, name = key.partition("__")
        params[section][name] = value
    return params


def test_the_default_recipe_has_its_name_and_another_run_what_differs_in_front() -> None:
    assert naming.run_name(DEFAULTS) == naming.DEFAULT_NAME
    rate = {"name": "sgd", "learning_rate": 0.1}
    params = changed(partition__scheme="dirichlet", partition__clients=100, train__client_optimizer=rate)
    assert naming.run_name(params) == "dirichlet 0.5, 100 clients, rate 0.1"
    params = changed(train__algorithm="scaffold", train__aggregator="trimmed_mean", train__model="mcmahan_cnn")
    assert naming.run_name(params).startswith("scaffold 2, trimmed_mean 0.1, mcmahan_cnn")
    everything = changed(
        **{f"train__{key}": f"another_{key}" for key in ("algorithm", "aggregator", "attack", "compressor", "model")}
    )
    assert len(naming.run_name(everything)) < 70 and naming.run_name(everything).endswith(", ...")


def test_a_run_of_before_the_quantities_has_a_title() -> None:
    """Its `partition.quantity` was a section, as the dvc.lock of such a revision has it."""
    partition = {"scheme": "linear", "clients": 5, "quantity": {"labels": "iid", "min_size": 1}}
    params: dict[str, Any] = {"train": {"model": "seed_cnn", "rounds": 2}, "partition": partition}
    assert naming.title(params) == "seed_cnn linear 5 clients 2 rounds"
    partition["quantity"] = "lognormal"
    assert naming.title(params) == "seed_cnn linear lognormal 5 clients 2 rounds"
    params["train"]["algorithm"] = "scaffold"
    assert naming.title(params) == "scaffold seed_cnn linear lognormal 5 clients 2 rounds"


def test_a_description_says_in_three_lines_what_on_what_and_how_it_ended() -> None:
    what, on, result = naming.description(changed(train__attack="label_flip"), "mnist", "finished").split("\n\n")
    assert what == (
        "Trained: baseline_cnn by fed_avg and mean: 10 rounds, all clients per round, sgd with rate 0.02, label_flip"
    )
    assert on == "On: mnist, 600 clients, partition contiguous, sizes even" and result == "Result: finished"


@pytest.mark.parametrize(
    ("column", "metric"),
    [
        ("train_loss", "train/loss"),
        ("validation_accuracy", "validation/accuracy"),
        ("test_clients_accuracy", "test/clients_accuracy"),
        ("bytes_up", "cost/bytes_up"),
        ("seconds", "cost/seconds"),
        ("seconds.train", "phases/train"),
        ("epsilon", "privacy/epsilon"),
        ("clients", "clients/clients"),
        ("dropped", "clients/dropped"),
        ("tester", "clients/tester"),
        ("system/cpu", "system/cpu"),
    ],
)
def test_every_metric_is_in_a_section_of_the_ui(column: str, metric: str) -> None:
    assert round_metrics(3, {column: 1.0})["metrics"] == {metric: 1.0}


def test_what_stays_the_same_is_no_curve() -> None:
    changing = naming.Changing()
    rounds = [{"clients": 5, "non_finite": bad, "bytes_up": 7, "test_accuracy": 0.5} for bad in (0, 0, 2, 0)]
    logged = [round_metrics(step, each, changing)["metrics"] for step, each in enumerate(rounds, start=1)]
    assert [set(each) for each in logged] == [
        {"clients/clients", "clients/non_finite", "cost/bytes_up", "test/accuracy"},
        {"test/accuracy"},
        {"test/accuracy", "clients/non_finite"},
        {"test/accuracy", "clients/non_finite"},
    ]
