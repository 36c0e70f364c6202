"""The contract of fedpipe/attacks: an attacker's samples and messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedpipe.config.train import Train
from fedpipe.contracts.choice import ContractError, TrainChoice, constant, function
from fedpipe.contracts.registry import Registry

if TYPE_CHECKING:
    import numpy as np

    from fedpipe.learning.interface import Client, Server
    from fedpipe.learning.task import Task

    Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Attack(TrainChoice):
    """A file of ``fedpipe/attacks``: ``samples``, ``vector`` or both, called for attackers only."""

    samples: Callable[[Task, Client], Client] | None = function(
        "task, client", "The client with the samples that an attacker trains on.", None
    )
    vector: Callable[[Task, Server, Client, list[Any], Any], list[Any]] | None = function(
        "task, server, client, honest, seed",
        "The tensors that an attacker sends in place of `honest`, which is its update, or another message in the "
        "update's shapes. Draw from `seed`, an int32 [2] of the vector's own.",
        None,
    )
    measure: Callable[[Any, Predict, np.ndarray, np.ndarray, int], dict[str, float]] | None = function(
        "params, predict, images, labels, classes",
        "Figures of the global model on test samples that show the attack's success, by column.",
        None,
    )

    NEEDS: str = constant("", "The data that it is for: `classes` as labels, `images` with classes, or any if empty.")

    def _check_names(self) -> None:
        if self.NEEDS not in ("", "classes", "images"):
            raise ContractError(f"says NEEDS = {self.NEEDS!r}; allowed: classes, images, or nothing")
        if self.samples is None and self.vector is None:
            raise ContractError("defines neither 'samples' nor 'vector', so that attackers would do nothing")


ATTACKS = Registry(Train.CHOICES["attack"], Attack)
