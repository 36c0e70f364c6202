"""The contract of fedpipe/aggregators: from the updates of a cohort to one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedpipe.config.train import Train
from fedpipe.contracts.choice import ContractError, TrainChoice, constant, function
from fedpipe.contracts.registry import Registry
from fedpipe.lazy import tf

if TYPE_CHECKING:
    import numpy as np

    from fedpipe.learning.interface import Client, Tensors
    from fedpipe.learning.measurements import Measurements
    from fedpipe.learning.task import Task
    from fedpipe.privacy.mechanism import Mechanism


@dataclass(frozen=True, kw_only=True)
class Aggregator(TrainChoice):
    """A file of ``fedpipe/aggregators``."""

    encode: Callable[[Task, Tensors, Tensors, Any, Client], Tensors] = function(
        "task, state, update, weight, client", "At the client: the tensors that are summed over the cohort."
    )
    finish: Callable[[Task, Tensors, Tensors, Any, Any], tuple[Tensors, Tensors]] = function(
        "task, state, total, weight, round_number", "At the server: the aggregated update, and the next state."
    )
    server_init: Callable[[Task], Tensors] = function("task", "The state before the first round.", lambda task: ())
    broadcast: Callable[[Task, Tensors], Tensors] = function(
        "task, state",
        "The part of the state that clients see; all of it without this name.",
        lambda task, state: state,
    )
    merge: Callable[[Any, Any], Any] = function(
        "a, b",
        "Takes the place of the sum, tensor by tensor; the same in any grouping, up to rounding.",
        lambda a, b: tf.add(a, b),
    )
    server_measurements: Callable[[Task, Tensors, Tensors, Tensors], Measurements] = function(
        "task, before, after, total",
        "Measurements of the server, by the name of their column, from the states before and after the round and the "
        "total that `finish` gets.",
        lambda task, before, after, total: {},
    )
    clip_norm: Callable[[Task, Tensors], Any] | None = function(
        "task, state",
        "The L2 norm to which `encode` scales updates down; a round then has the columns clip_norm and clipped, the "
        "share of the clients whose update was longer.",
        None,
    )
    message_bytes: Callable[[Task, Tensors], int] | None = function(
        "task, encoded", "The bytes of a client's message, if a device would send less than `encode` returns.", None
    )
    smallest_cohort: Callable[[Train], int] = function(
        "settings", "The number of updates that a round needs.", lambda settings: 0
    )
    mechanism: Callable[[Train, int], Mechanism] | None = function(
        "settings, clients", "The mechanism of differential privacy that the ledger accounts for.", None
    )
    COLLECTS: bool = constant(False, "`finish` gets the tensors of all clients, stacked, and not their sum.")
    check_sizes: Callable[[Train, np.ndarray], None] = function(
        "settings, sizes",
        "Raises `ValueError` for clients' numbers of samples, int64 [clients], that the file cannot take; each site of "
        "a federation checks its own clients.",
        lambda settings, sizes: None,
    )
    SUMS_INTEGERS: bool = constant(
        False,
        "`encode` gives integers, of which sums modulo 2^`bits` of the file's params are needed only: sites of a "
        "federation add them with the protocol of secure aggregation.",
    )
    noise_variance: Callable[[Train, int], int] = function(
        "settings, clients",
        "With `SUMS_INTEGERS`: the least variance of the secret noise that sites of a federation add to an entry of a "
        "sum, in units of the integers squared; above 0 if the file's params have a `noise_multiplier` above 0.",
        lambda settings, clients: 0,
    )
    integers_per_unit: Callable[[Train, int], float] = function(
        "settings, clients", "With `noise_variance`: the scale of the integers.", lambda settings, clients: 1.0
    )
    NOISE_AT_CLIENTS: bool = constant(
        False,
        "`encode` adds noise, from `Task.noise_seed`. In a federation each site has a key of its own for it, which "
        "nobody else knows.",
    )
    AVERAGES_BATCH_NORM: bool = constant(
        False, "The result of each entry lies between those of the clients, as statistics of batch normalization must."
    )
    IGNORES_WEIGHTS: bool = constant(False, "All clients with samples count alike.")
    COUNTS_DROPOUTS: bool = constant(False, "With `mechanism`: epsilon also holds if clients drop out or come in turn.")

    def _check_names(self) -> None:
        if self.COLLECTS and self.defines("merge"):
            raise ContractError("defines 'COLLECTS' and 'merge', but stacked tensors are not merged")
        if self.COUNTS_DROPOUTS and self.mechanism is None:
            raise ContractError("defines 'COUNTS_DROPOUTS' without 'mechanism'")

    @property
    def is_private(self) -> bool:
        """Whether the aggregator adds noise of which the privacy ledger knows."""
        return self.mechanism is not None


AGGREGATORS = Registry(Train.CHOICES["aggregator"], Aggregator)


def has_noise_at_sites(settings: Train) -> bool:
    """Whether sites of a federation add noise to their integers; it is always secret."""
    params = settings.params_of("aggregator")
    return AGGREGATORS.of(settings.aggregator).SUMS_INTEGERS and getattr(params, "noise_multiplier", 0.0) > 0


def has_noise_at_clients(settings: Train) -> bool:
    """Whether clients add noise to their updates, with a key of their site in a federation."""
    return AGGREGATORS.of(settings.aggregator).NOISE_AT_CLIENTS


def has_noise(settings: Train) -> bool:
    """Whether there is noise of which the privacy ledger knows."""
    return AGGREGATORS.of(settings.aggregator).is_private or has_noise_at_sites(settings)


def has_secret_noise(settings: Train) -> bool:
    """Whether noise and cohorts come from the system's generator, so that no other run has the same bits."""
    return has_noise_at_sites(settings) or (has_noise(settings) and settings.privacy.noise == "secret")
