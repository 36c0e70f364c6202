"""No key of params.yaml is taken and does nothing: each is read by code, or refused where nothing reads it."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from fedpipe.baseline import train_settings
from fedpipe.config import SECTIONS
from fedpipe.contracts.partition import REGISTRIES as OF_PARTITION
from fedpipe.contracts.train import REGISTRIES as OF_TRAIN
from fedpipe.errors import PipelineError
from tests import ROOT

ASYNCHRONOUS = {"algorithm": "fed_async", "availability": {"devices": {"seconds_per_sample": 1.0}}}
PRIVATE = {"aggregator": "dp_gaussian", "client_weighting": "uniform"}


def keys(model: type[BaseModel], name: str) -> Iterator[tuple[str, str]]:
    """The dotted name and the field of each key of a section, also of sections in it."""
    for field, info in model.model_fields.items():
        members = [info.annotation, *get_args(info.annotation)]
        sections = [each for each in members if isinstance(each, type) and issubclass(each, BaseModel)]
        for section in sections:
            yield from keys(section, f"{name}.{field}")
        if not sections:
            yield f"{name}.{field}", field


def all_keys() -> list[tuple[str, str]]:
    """Those of all sections, and of the files that sections choose."""
    named = [key for section, name in SECTIONS.items() for key in keys(section, name)]
    for section, registries in (("partition", OF_PARTITION), ("train", OF_TRAIN)):
        for registry in registries.values():
            for name, choice in registry.all():
                named += keys(choice.Params, f"{section}.{name}")
    return named


def names_read(source: str) -> Iterator[str]:
    """What a module reads as an attribute, or names in a text such as that of `getattr`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield node.attr
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_each_key_is_read_by_code() -> None:
    files = [file for folder in ("fedpipe", "stages", "operations") for file in (ROOT / folder).rglob("*.py")]
    read = {name for file in files for name in names_read(Path(file).read_text(encoding="utf-8"))}
    every = all_keys()
    assert len(every) > 150 and {"train.fed_prox.mu", "train.client_optimizer.schedule.every"} <= {
        key for key, _ in every
    }
    assert [key for key, field in every if field not in read] == []


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"attackers": 0.1}, "train.attackers"),
        ({"stop_at": {"epsilon": 1.0}}, "train.stop_at.epsilon"),
        ({"stop_at": {"patience": 2}, "evaluate_every": 0}, "train.stop_at.patience"),
        ({"privacy": {"epsilon": 1.0}}, "train.privacy.epsilon"),
        ({"privacy": {"noise": "secret"}}, "train.privacy.noise"),
        ({"client_optimizer": {"name": "adam", "momentum": 0.9}}, "momentum"),
        ({"client_optimizer": {"epsilon": 0.1}}, "epsilon"),
        ({"client_optimizer": {"name": "adam", "initial_accumulator": 0.1}}, "initial_accumulator"),
        ({"server_optimizer": {"beta_1": 0.9}}, "beta_1"),
        ({"client_optimizer": {"schedule": {"every": 2}}}, "every"),
        ({"server_optimizer": {"schedule": {"name": "step", "end": 0.1}}}, "end"),
        ({"availability": {"stragglers": {"least_work": 0.5}}}, "least_work"),
        ({"availability": {"cyclic": {"period": 3}}}, "period"),
        ({"availability": {"report_goal": 3}}, "report_goal"),
        ({"availability": {"devices": {"spread": 1.0}}}, "spread"),
        ({"availability": {"devices": {"latency": 1.0}}}, "latency"),
        ({"availability": {"devices": {"bandwidth": {"up": 1.0}}}}, "bandwidth.up"),
        ({"availability": {"devices": {"seconds_per_sample": 1.0, "bandwidth": {"spread": 1.0}}}}, "bandwidth.spread"),
        ({"cohort": "poisson", "clients_per_round": 3}, "train.clients_per_round"),
        ({"algorithm": "fed_sgd", "local_steps": 3}, "train.local_steps"),
        ({"algorithm": "fed_sgd", "client_optimizer": {"clip_norm": 1.0}}, "train.client_optimizer.clip_norm"),
        ({"algorithm": "fed_sgd", "client_optimizer": {"name": "adam"}}, "train.client_optimizer.name"),
        ({"algorithm": "fed_sgd", "client_optimizer": {"momentum": 0.9}}, "train.client_optimizer.momentum"),
        (
            {"algorithm": "fed_sgd", "client_optimizer": {"schedule": {"name": "cosine"}}},
            "train.client_optimizer.schedule.name",
        ),
        (
            {"algorithm": "fed_sgd", "client_optimizer": {"schedule": {"warm_up": 2}}},
            "train.client_optimizer.schedule.warm_up",
        ),
        ({"algorithm": "fed_sgd", "shuffle": True}, "train.shuffle"),
        (ASYNCHRONOUS | {"fed_async": {"late": 2}}, "train.fed_async.late"),
        (ASYNCHRONOUS | {"fed_async": {"staleness": "hinge", "exponent": 1.0}}, "train.fed_async.exponent"),
        (PRIVATE | {"dp_gaussian": {"quantile": 0.9}}, "train.dp_gaussian.quantile"),
        (PRIVATE | {"dp_gaussian": {"count_stddev": 1.0}}, "train.dp_gaussian.count_stddev"),
        (PRIVATE | {"aggregator": "secure_sum", "secure_sum": {"most_examples": 9}}, "train.secure_sum.most_examples"),
        ({"init_file": {"path": "models/start.safetensors"}}, "train.init_file"),
    ],
)
def test_a_key_without_its_partner_is_refused(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(PipelineError, match=rf"'{key}'|{key}"):
        train_settings(**changes)
