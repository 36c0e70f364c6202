"""A training that has ended: its weights, its rounds, and the summary of them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from fedpipe.config.train import Dropout, Train
from fedpipe.contracts.aggregator import has_noise, has_secret_noise
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.learning.client_rows import table
from fedpipe.networks.network import Network, Weights
from fedpipe.runtime.checkpoint import Checkpoint
from fedpipe.runtime.dropouts import listed
from fedpipe.runtime.personal import ClientModels
from fedpipe.runtime.records import RoundRecord, diverged


@dataclass(frozen=True, eq=False)
class Trained:
    """The result of a training."""

    settings: Train
    network: Network
    weights: Weights  # of the last round
    best: Weights  # of the round that `selection` chooses, if `keep_best`; else those of the last round
    best_round: int
    records: list[RoundRecord]
    dropouts: list[Dropout]  # of sites
    privacy: dict[str, Any]  # the spent budget (`Ledger.summary`); empty if it is not private
    personal: ClientModels | None = None  # the clients' personal models, if any; not with secret noise
    end: Checkpoint | None = None  # from which a training of more rounds resumes; not with secret noise
    noise_is_of_sites: bool = False  # whether sites drew the noise of their clients, each with a key of its own
    interrupted: bool = False  # by Ctrl-C, before its last round
    client_rows: list[np.ndarray] = field(default_factory=list)  # of each round, with 'train.client_rounds'

    @property
    def reached(self) -> int | None:
        """The first round whose accuracy was at least that of ``stop_at``; training ends with it."""
        last = self.records[-1]
        return last.round if last.reaches(self.settings.stop_at.accuracy, self.settings.selection) else None

    def client_rounds(self, numbers: np.ndarray) -> pd.DataFrame:
        """The measurements of each client in each round (`client_rows.table`); no rows unless they are asked for."""
        return table(self.settings, self.client_rows, numbers)

    def summary(self) -> dict[str, Any]:
        """Figures of the whole training, in the order of metrics/training.json; those that it has not are absent."""
        records, settings = self.records, self.settings
        return {
            **({} if has_secret_noise(settings) else _by_clients(records)),
            "rounds": len(records),
            "weights": self.network.parameters,
            **self._selected(),
            **self.privacy,
            **({"noise": "secret" if has_secret_noise(settings) else "seeded"} if has_noise(settings) else {}),
            **({"noise_drawn_by": "sites"} if self.noise_is_of_sites else {}),
            **({"dropouts": listed(self.dropouts)} if self.dropouts else {}),
            **_attacked(settings),
            **({"global_model": False} if ALGORITHMS.of(settings.algorithm).HAS_NO_GLOBAL_MODEL else {}),
            **self._clustered(),
            **({} if has_secret_noise(settings) or diverged(records) is None else {"diverged": True}),
        }

    def _selected(self) -> dict[str, Any]:
        """The best round, and on what it was selected; nothing if no round was measured on that."""
        samples = self.settings.selection
        measured = [(record.accuracy_on(samples), -record.round, record) for record in self.records]
        known = [each for each in measured if each[0] is not None]
        if not known:
            return {}
        best = max(known)[2]
        accuracies = {f"best_{name}_accuracy": best.accuracy_on(name) for name in ("validation", "test")}
        figures = {name: accuracy for name, accuracy in accuracies.items() if accuracy is not None}
        target = {} if self.settings.stop_at.accuracy is None else {"rounds_to_target": self.reached}
        return {"selected_on": samples, "best_round": best.round, **figures, **target}

    def _clustered(self) -> dict[str, Any]:
        """How many clients each cluster has after the last round; nothing if clients share no models."""
        if self.personal is None or (clusters := self.personal.clusters) is None:
            return {}
        with_samples = self.personal.wiring.reader.sizes > 0
        sizes = np.bincount(clusters[with_samples], minlength=self.settings.params_of("algorithm").clusters)
        return {"cluster_clients": {str(number): int(size) for number, size in enumerate(sizes)}}


def _by_clients(records: list[RoundRecord]) -> dict[str, Any]:
    """Figures that clients' data decide."""
    return {
        "train": {
            "loss": _last(record.loss for record in records),
            "accuracy": _last(record.accuracy for record in records),
        },
        "non_finite": sum(record.non_finite or 0 for record in records),
        "bytes_down": sum(record.bytes_down or 0 for record in records),
        "bytes_up": sum(record.bytes_up or 0 for record in records),
        **_simulated(records),
    }


def _last(figures: Iterable[float | None]) -> float | None:
    """The last figure that is not None; a round without clients has none."""
    return next((figure for figure in reversed(list(figures)) if figure is not None), None)


def _simulated(records: list[RoundRecord]) -> dict[str, float]:
    """The simulated hours of all rounds, and the staleness of updates in asynchronous training."""
    hours = [record.others["simulated_hours"] or 0.0 for record in records if "simulated_hours" in record.others]
    stale = [record for record in records if "staleness_max" in record.others]
    figures = {"simulated_hours": math.fsum(hours)} if hours else {}
    if stale:
        mean = math.fsum((record.clients or 0) * (record.others["staleness_mean"] or 0.0) for record in stale)
        figures["staleness_mean"] = mean / max(sum(record.clients or 0 for record in stale), 1)
        figures["staleness_max"] = max(record.others["staleness_max"] or 0.0 for record in stale)
    return figures


def _attacked(settings: Train) -> dict[str, Any]:
    """The attack and its params, for evaluation; nothing without an attack."""
    if settings.attack == "no_attack":
        return {}
    return {"attackers": settings.attackers, "attack": {settings.attack: settings.params_of("attack").model_dump()}}
