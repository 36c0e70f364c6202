"""The folders that section ``train`` chooses from."""

from typing import Any

from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import AGGREGATORS
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.contracts.attack import ATTACKS
from fedpipe.contracts.choice import TrainChoice
from fedpipe.contracts.cohort import COHORTS
from fedpipe.contracts.compressor import COMPRESSORS
from fedpipe.contracts.model import LOSSES, MODELS
from fedpipe.contracts.registry import Registry

REGISTRIES: dict[str, Registry[Any]] = {
    "algorithm": ALGORITHMS,
    "aggregator": AGGREGATORS,
    "model": MODELS,
    "loss": LOSSES,
    "cohort": COHORTS,
    "attack": ATTACKS,
    "compressor": COMPRESSORS,
}


def chosen(settings: Train) -> list[TrainChoice]:
    """The parts of a training."""
    return [registry.of(getattr(settings, key)) for key, registry in REGISTRIES.items()]
