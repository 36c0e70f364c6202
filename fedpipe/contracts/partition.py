"""The contracts of fedpipe/partitioners and fedpipe/quantities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedpipe.allocation.new_samples import NewSamples, like_the_published
from fedpipe.config.partition import Partition
from fedpipe.contracts.choice import Choice, ContractError, constant, function
from fedpipe.contracts.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Partitioner(Choice):
    """A file of ``fedpipe/partitioners``."""

    assign: Callable[[np.ndarray, np.ndarray, Any, np.random.Generator], np.ndarray] | None = function(
        "labels, sizes, params, rng",
        "The client of each sample, int [samples]. All randomness comes from `rng`: the same params give the same "
        "bytes. Every file but one with `AT_SITES` must define it.",
        None,
    )
    assign_new: Callable[[NewSamples, np.random.Generator], np.ndarray] = function(
        "new, rng",
        "The client of each sample of a batch that came after the data set was published, int [samples] "
        "(`fedpipe/allocation/new_samples.py`). It may depend on the sample and its position and on the published "
        "samples, not on the other samples of the batch, any of which may be withdrawn. Without it, a new sample goes "
        "to a client drawn among those of the published samples of its label.",
        like_the_published,
    )
    decides_sizes: Callable[[Any], bool] = function(
        "params",
        "Whether the scheme decides the sizes of the clients, as `dirichlet` does. `partition.quantity` must then be "
        "`even`, and of `sizes` only the number and the sum count.",
        lambda params: False,
    )
    client_names: Callable[[Any], Sequence[str]] | None = function(
        "params",
        "A name for each client, for `data/clients/names.csv`. New samples then go to the clients that their batch "
        "names, and `assign_new` is not called.",
        None,
    )
    FOR_GIVEN_SIZES: str = constant(
        "take another scheme",
        'With `decides_sizes`: the end of the message that refuses another quantity, after "set quantity to even, or".',
    )
    SEES_ALL_SAMPLES: bool = constant(
        False,
        "`labels` are those of all samples, and the scheme returns -1 (`LEFT_OUT`) for `len(labels) - sizes.sum()` of "
        "them. Without it, `partition.leave_out` samples are drawn before.",
    )
    NAMES_SAMPLES: bool = constant(
        False,
        "A table of the scheme names samples by their numbers, so `assign` gets the validation samples too, and they "
        "are taken from their clients after it. Without it, `assign` never sees them.",
    )

    AT_SITES: bool = constant(
        False, "The samples are at the sites that the params name, as `sites`; the scheme deals none."
    )

    def _check_names(self) -> None:
        if self.assign is None and not self.AT_SITES:
            raise ContractError("does not define 'assign', which every file of this folder must define")
        if self.assign is not None and self.AT_SITES:
            raise ContractError("defines 'assign' and 'AT_SITES', but what is at sites is not dealt")
        if self.defines("FOR_GIVEN_SIZES") and not self.defines("decides_sizes"):
            raise ContractError("defines 'FOR_GIVEN_SIZES' without 'decides_sizes'")


@dataclass(frozen=True, kw_only=True)
class Quantity(Choice):
    """A file of ``fedpipe/quantities``."""

    sizes: Callable[[int, int, Any, np.random.Generator], np.ndarray] = function(
        "samples, clients, params, rng", "How many samples each client gets, int [clients], with the sum `samples`."
    )


PARTITIONERS = Registry(Partition.CHOICES["scheme"], Partitioner)
QUANTITIES = Registry(Partition.CHOICES["quantity"], Quantity)
REGISTRIES: dict[str, Registry[Any]] = {"scheme": PARTITIONERS, "quantity": QUANTITIES}
