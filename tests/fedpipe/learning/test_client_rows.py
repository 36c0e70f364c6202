"""Each client's measurements in each round: they sum up to the round's, and nothing else changes by a bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fedpipe
from fedpipe.errors import PipelineError
from fedpipe.runtime.worker import Worker
from tests.fedpipe.training import same_bits, train, train_settings

Make = Callable[[list[int]], Path]
SIZES = [23, 9, 0, 4, 31]
NUMBERS = np.arange(5)
SMALL: dict[str, Any] = {"model": "baseline_cnn", "batch_size": 5, "rounds": 2, "evaluate_every": 0}
DEVICES = {"availability": {"devices": {"seconds_per_sample": 1.0, "spread": 0.5}}}


@pytest.mark.parametrize(
    "changes",
    [
        {"aggregator": "median", "model": "logistic_regression", "rounds": 1},  # updates are stacked, too
        pytest.param({"metrics": ["top_3_accuracy"], "clients_per_round": 4}, marks=pytest.mark.slow),
        pytest.param({"algorithm": "mime"}, marks=pytest.mark.slow),  # two passes
        pytest.param({"algorithm": "scaffold", "compressor": "top_k"}, marks=pytest.mark.slow),
        pytest.param({"algorithm": "fed_buff", "fed_buff": {"buffer_size": 3}, **DEVICES}, marks=pytest.mark.slow),
    ],
    ids=lambda changes: next(iter(changes.values())),
)
def test_rows_sum_up_to_the_rounds_and_change_no_bit(
    worker: Worker, make_shards: Make, tmp_path: Path, changes: dict[str, Any]
) -> None:
    shards, content = make_shards(SIZES), SMALL | changes
    plain = train(train_settings(**content), shards, worker, tmp_path / "off")
    ended = train(train_settings(**content, client_rounds=True), shards, worker, tmp_path / "on")
    assert same_bits(plain.weights, ended.weights) and plain.records == ended.records
    assert not len(plain.client_rounds(NUMBERS))
    rows = ended.client_rounds(NUMBERS)
    assert list(rows)[:5] == ["round", "client", "examples", "train_loss", "train_accuracy"]
    for record in ended.records:
        mine = rows[rows["round"] == record.round]
        trained = mine[mine["examples"] > 0]
        assert (len(trained), int(mine["examples"].sum())) == (record.clients, record.examples)
        if content.get("algorithm") != "fed_buff":  # of which a client may arrive twice
            assert mine["client"].is_monotonic_increasing and mine["client"].is_unique
        # One epoch: each client saw each of its examples once.
        means = {"loss": record.loss, "accuracy": record.accuracy} | {
            name.removeprefix("train_"): value for name, value in record.others.items() if name.startswith("train_")
        }
        for name, mean in means.items():
            assert np.average(trained[f"train_{name}"], weights=trained["examples"]) == pytest.approx(mean, rel=1e-6)
        assert (trained["update_norm"] > 0).all() and (trained["weight"] == trained["examples"]).all()
        assert mine[mine["examples"] == 0]["train_loss"].isna().all() and (mine["non_finite"] == 0).all()


def test_an_update_that_is_not_finite_has_its_row(worker: Worker, make_shards: Make, tmp_path: Path) -> None:
    attacked = {"attack": "scaled_update", "scaled_update": {"factor": 1e38}, "attackers": 0.4}
    settings = train_settings(**SMALL | attacked | {"model": "logistic_regression"}, client_rounds=True)
    ended = train(settings, make_shards([9, 9, 9, 9, 9]), worker, tmp_path)
    first = ended.client_rounds(NUMBERS).query("round == 1")
    assert first["non_finite"].sum() == ended.records[0].non_finite == 2
    assert first.query("non_finite == 1")["train_loss"].isna().all() and len(first) == 5


@pytest.mark.parametrize("aggregator", ["dp_gaussian", "local_dp", "secure_sum"])
def test_what_protects_clients_writes_no_rows(aggregator: str) -> None:
    with pytest.raises(PipelineError, match=rf"'train.client_rounds' writes .* {aggregator} protects the update of a"):
        fedpipe.train_settings(aggregator=aggregator, client_weighting="uniform", client_rounds=True)
