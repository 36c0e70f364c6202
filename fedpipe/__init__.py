"""The library: federated learning whose results are the same bits on every machine.

Importing it does no work: each name below loads its module when it is first used (docs/library.md).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedpipe.baseline import train_settings
    from fedpipe.errors import PipelineError
    from fedpipe.networks.weights import load_weights, save_weights
    from fedpipe.pinning import pin
    from fedpipe.plots import plot_partition, plot_predictions, plot_rounds
    from fedpipe.simulation import Interrupted, Simulation, simulate

__all__ = [
    "Interrupted",
    "PipelineError",
    "Simulation",
    "load_weights",
    "pin",
    "plot_partition",
    "plot_predictions",
    "plot_rounds",
    "save_weights",
    "simulate",
    "train_settings",
]

_MODULES = {
    "Interrupted": "fedpipe.simulation",
    "PipelineError": "fedpipe.errors",
    "Simulation": "fedpipe.simulation",
    "load_weights": "fedpipe.networks.weights",
    "pin": "fedpipe.pinning",
    "plot_partition": "fedpipe.plots",
    "plot_predictions": "fedpipe.plots",
    "plot_rounds": "fedpipe.plots",
    "save_weights": "fedpipe.networks.weights",
    "simulate": "fedpipe.simulation",
    "train_settings": "fedpipe.baseline",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'fedpipe' has no attribute '{name}'")
    return getattr(import_module(_MODULES[name]), name)
