"""Section train with random choices that go together by the rules of docs/choosing.md, and trainings with them.

``python -m tests.operations.combinations SHARDS OUTPUT CONTENTS`` trains each of CONTENTS, a JSON list of sections
train, on a worker of its own; OUTPUT gets the SHA-256 of all that each left, by its number, as JSON.
"""

import json
import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from random import Random
from typing import Any, Literal, get_args, get_origin

import numpy as np
from safetensors.numpy import load_file

from fedpipe import config
from fedpipe.config import Train
from fedpipe.config.optimizers import ClientOptimizer, ServerOptimizer
from fedpipe.contracts.model import LOSSES, METRICS
from fedpipe.contracts.train import REGISTRIES
from fedpipe.datasets.shards import Manifest
from fedpipe.errors import DivergedError, NothingTrainedError
from fedpipe.params import parse
from fedpipe.privacy import ledger
from fedpipe.runtime import cohort
from fedpipe.runtime.trained import Trained
from fedpipe.runtime.worker import Worker
from operations import choosing
from tests import RECIPE
from tests.fedpipe.resuming import digest
from tests.fedpipe.training import train

PARAMS = config.read_yaml(RECIPE / "params.yaml")["train"]
JOB = choosing.Job(13, cohort_size=9, goal=7)
KEYS = (*choosing.KEYS, choosing.AVAILABILITY)
CHANGES = 8  # of other keys, some of which do not fit
# Numbers at the edge of what they may be, by section; all values of words and switches are tried anyway.
EDGES: dict[str, list[dict[str, Any]]] = {
    "fed_prox": [{"mu": 0.0}],
    "fed_dyn": [{"alpha": 1.0}],
    "mime": [{"beta": 0.0}],
    "mime_lite": [{"beta": 0.0}],
    "q_fed_avg": [{"q": 0.0}, {"q": 5.0}],
    "afl": [{"rate": 10.0}],
    "ifca": [{"clusters": 1}, {"clusters": 3}],
    "ditto": [{"lam": 0.0}],
    "fed_rep": [{"head_epochs": 1}],
    "fed_buff": [{"buffer_size": 1}, {"buffer_size": 13}, {"concurrency": 1}],
    "fed_async": [{"alpha": 1.0}, {"concurrency": 1}, {"staleness": "hinge", "late": 0}],
    "clipped_mean": [{"norm": 1e-6}],
    "zeroed_mean": [{"norm": 1e-6}],
    "trimmed_mean": [{"trim": 0.0}, {"trim": 0.49}],
    "krum": [{"attackers": 0}, {"attackers": 2}],
    "multi_krum": [{"attackers": 0}, {"average": 1}, {"average": 5}],
    "bulyan": [{"attackers": 0}],
    "geometric_median": [{"steps": 1}, {"smoothing": 1.0}],
    "secure_sum": [{"bits": 12}, {"norm": 100.0}],
    "dp_gaussian": [{"noise_multiplier": 1e-3}, {"clipping": "adaptive", "quantile_rate": 0.0}],
    "dp_ftrl": [{"restart_every": 1}],
    "poisson": [{"probability": 0.1}, {"probability": 1.0}],
    "fixed": [{"ids": [3]}, {"ids": [0, 12]}],
    "power_of_choice": [{"candidates": 13}],
    "backdoor": [{"share": 1.0, "size": 8}, {"factor": 10.0}],
    "label_flip": [{"source": 1, "target": 2}],
    "quantisation": [{"bits": 1}, {"bits": 16}],
    "top_k": [{"share": 1e-6}, {"share": 1.0}],
    "random_k": [{"share": 1e-6}, {"share": 1.0}],
}
AVAILABILITIES: list[dict[str, Any]] = [
    {"dropout_before": 0.7},
    {"dropout_during": 0.7},
    {"cyclic": {"groups": 3, "period": 4}},
    {"stragglers": {"share": 1.0, "least_work": 0.01}},
    {"devices": {"seconds_per_sample": 1.0, "spread": 3.0, "latency": 5.0, "bandwidth": {"down": 1.0, "up": 0.1}}},
]
Feature = tuple[str, str]


def features(content: dict[str, Any]) -> set[Feature]:
    """What of the choices section train has, as (key, choice)."""
    inputs = [name for name, value in JOB.availability().items() if content[choosing.AVAILABILITY] == value]
    others = (*choosing.KEYS, "client_weighting", "clients_per_round")
    return {(key, str(content[key])) for key in others} | {(choosing.AVAILABILITY, name) for name in inputs}


def all_features() -> set[Feature]:
    """Every choice that there is."""
    bases = {(key, str(value)) for base in JOB.bases() for key, value in base.items()}
    return {(key, name) for key in KEYS for name in JOB.choices(key)} | bases


def combination(chance: Random, wanted: Collection[Feature] = ()) -> dict[str, Any]:
    """A choice for each key, one after the other among those that go with the ones before.

    Those that are ``wanted`` come first, and of the keys those of which most are wanted.
    """
    chosen: dict[str, str] = {}
    actual: list[dict[str, Any]] = []
    for key in sorted(chance.sample(KEYS, len(KEYS)), key=lambda key: -sum(key == other for other, _ in wanted)):
        names = JOB.choices(key)
        for name in sorted(chance.sample(names, len(names)), key=lambda name: (key, name) not in wanted):
            legal = [
                first for base in JOB.bases() if JOB.refusal(first := _content(chosen | {key: name}, base)) is None
            ]
            if legal:
                chosen[key], actual = name, legal
                break
    return max(chance.sample(actual, len(actual)), key=lambda each: len(features(each) & set(wanted)))


def covering(seed: int) -> Iterator[dict[str, Any]]:
    """Combinations that together have every choice, each with as many new ones as it can."""
    chance, left = Random(seed), all_features()
    while left:
        content = combination(chance, left)
        assert features(content) & left, f"no combination has any of {left}"
        left -= features(content)
        yield content


def harder(content: dict[str, Any]) -> dict[str, Any]:
    """The same choices with shuffled samples and two epochs, if an algorithm takes them."""
    for change in ({"shuffle": True}, {"local_epochs": 2}):
        if JOB.refusal(content | change) is None:
            content = content | change
    return content


def changed(content: dict[str, Any], chance: Random) -> dict[str, Any]:
    """The same choices with other values of other keys, as far as these go with them."""
    content = content | {"seed": chance.randrange(2**16)}
    for _ in range(CHANGES):
        candidate = content | _change(content, chance)
        if JOB.refusal(candidate) is None:
            content = candidate
    return content


def _content(chosen: dict[str, str], base: dict[str, Any]) -> dict[str, Any]:
    layers: dict[str, Any] = {"model": "mcmahan_2nn", "mcmahan_2nn": {}}  # personal layers need more than one
    return (
        JOB.content(PARAMS, chosen, base)
        | (layers if chosen.get("algorithm") != "fed_bn" else {})
        | {
            "power_of_choice": {"candidates": 10},
            "poisson": {"probability": 0.7},
            "rounds": 2,
            "evaluate_every": 0,
            "batch_size": 4,
        }
    )


# FedAvg alone with the model that draws random numbers in each step; other graphs are built in less time.
WITH_DROPOUT = harder(
    _content(
        {"algorithm": "fed_avg", "aggregator": "mean", "cohort": "uniform", "attack": "no_attack"}
        | {"compressor": "no_compression"},
        JOB.bases()[0],
    )
    | {"model": "mcmahan_cnn", "mcmahan_cnn": {"dropout": 0.5}}
)


def _change(content: dict[str, Any], chance: Random) -> dict[str, Any]:
    """A key or a param with another value, which may or may not go with the others."""
    loss = chance.choice(LOSSES.names)
    rates = {"momentum": 0.0, "schedule": {"name": "exponential", "warm_up": 1, "factor": 0.5}}
    of_client = {"name": chance.choice(_values(ClientOptimizer, "name")), "learning_rate": 0.01, "clip_norm": 1.0}
    of_server = {"name": chance.choice(_values(ServerOptimizer, "name")), "learning_rate": 0.1}
    availability = [{}, *(content["availability"] | more for more in (*JOB.availability().values(), *AVAILABILITIES))]
    actual: list[dict[str, Any]] = [
        {"availability": chance.choice(availability)},
        {"client_optimizer": rates | of_client},
        {"server_optimizer": rates | of_server},
        {"local_epochs": 2},
        {"batch_size": chance.choice((1, 20))},
        {"last_batch": "drop"},
        {"shuffle": True},
        {"client_rounds": True},
        {"metrics": list(METRICS.names)},
        {"loss": loss, loss: {}},
        {"model": "baseline_cnn", "baseline_cnn": {}},
        {"attackers": 0.5},
    ]
    for key in choosing.KEYS:
        name = content[key]
        section = REGISTRIES[key].of(name).Params
        values = [{field: value} for field in section.model_fields for value in _values(section, field)]
        if values := [*values, *EDGES.get(name, [])]:
            actual.append({name: content[name] | chance.choice(values)})
    return chance.choice(actual)


def _values(section: Any, field: str) -> tuple[Any, ...]:
    """The values of a field that is a Literal or a bool; none of another one."""
    kind = section.model_fields[field].annotation
    return (False, True) if kind is bool else get_args(kind) if get_origin(kind) is Literal else ()


def trained(content: dict[str, Any], shards: Path, worker: Worker, folder: Path) -> Trained | str:
    """Trains two rounds with section train ``content``; a refusal if that depends on what the clients compute.

    Raises:
      AssertionError: The result is not finite.
      PipelineError: The training was refused though the rules let it through.
    """
    settings, manifest = parse(Train, content), Manifest.read(shards)
    cohort.require_clients(settings, manifest.clients)
    folder.mkdir()
    try:
        ended = train(settings, shards, worker, folder)
    except DivergedError as error:
        if settings.attack == "no_attack":
            raise
        return str(error)
    except NothingTrainedError as error:
        if settings.last_batch != "drop":
            raise
        return str(error)
    weights = [*ended.weights]
    if ended.personal is not None:
        ended.personal.write(folder / "personal.safetensors")
        weights += load_file(folder / "personal.safetensors").values()
    assert len(ended.records) == 2 and all(np.isfinite(each).all() for each in weights)
    return ended


def main(shards: Path, output: Path, contents: list[dict[str, Any]]) -> None:
    """Trains each of ``contents``; every one must end with weights."""
    digests = {}
    ledger._TIGHT_UP_TO = 0.0  # a tight epsilon takes two seconds
    with tempfile.TemporaryDirectory() as name, Worker(Path(name) / "worker.log") as worker:
        worker.wait_until_ready()
        for number, content in enumerate(contents):
            try:
                ended = trained(content, shards, worker, folder := Path(name) / str(number))
                assert isinstance(ended, Trained) and any(record.loss for record in ended.records)
            except BaseException as error:
                error.add_note(f"section train: {content}")
                raise
            digests[str(number)] = digest(ended, folder)
    output.write_text(json.dumps(digests))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(Path(sys.argv[3]).read_text()))
