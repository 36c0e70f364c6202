"""The baseline recipe's training, for those who use the library without params.yaml (there it is the default)."""

from typing import Any

import numpy as np

from fedpipe.config.train import Train
from fedpipe.params import parse

RECIPE: dict[str, Any] = {
    "algorithm": "fed_avg",
    "aggregator": "mean",
    "model": "baseline_cnn",
    "loss": "cross_entropy",
    "cohort": "uniform",
    "attack": "no_attack",
    "attackers": 0.0,
    "compressor": "no_compression",
    "metrics": [],
    "rounds": 10,
    "clients_per_round": "all",
    "local_epochs": 1,
    "batch_size": 20,
    "shuffle": False,
    "last_batch": "keep",
    "client_optimizer": {"name": "sgd", "learning_rate": 0.02, "momentum": 0.0},
    "server_optimizer": {"name": "sgd", "learning_rate": 1.0, "momentum": 0.0},
    "client_weighting": "examples",
    "evaluate_every": 1,
    "selection": "validation",
    "keep_best": False,
    "init": "fresh",
    "seed": 2024,
}


def train_settings(**changes: Any) -> Train:
    """The baseline recipe with ``changes``, checked as section ``train`` of params.yaml is.

    Args:
      **changes: Keys of section train. A mapping changes the keys that it names: ``client_optimizer={"momentum": 0.9}``
        keeps the learning rate.

    Raises:
      PipelineError: A key or a value is not allowed; the message names the allowed ones.
    """
    content = dict(RECIPE)
    for key, value in _plain(changes).items():
        before = content.get(key)
        content[key] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    for key in Train.CHOICES:
        if isinstance(content[key], str):
            content.setdefault(content[key], {})
    return parse(Train, content)


def _plain(value: Any) -> Any:
    """``value`` with numbers of Python in the place of NumPy's scalars, as they come of a loop over an array."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value.item() if isinstance(value, np.generic) else value
