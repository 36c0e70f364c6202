"""The clients of all training samples: of the published ones, and of those that came in batches since.

- A published sample has the client that it has without a pool (assignment.py): no batch moves it.
- A sample of a batch goes to the client that the batch names, if the scheme's clients have names; a new name is a new
  client, numbered after the others in the order in which the names came. Otherwise the scheme's ``assign_new`` says.
- A published validation sample whose place a sample of a batch has taken (validation_samples.py) goes to the client
  that the scheme's table names; otherwise it is dealt like a batch before the first one.

No client has validation samples, samples of withdrawn clients, and ``leave_out`` of the published samples. New samples
are never left out.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fedpipe.allocation.counts import LEFT_OUT
from fedpipe.allocation.new_samples import NewSamples
from fedpipe.config import Partition
from fedpipe.contracts.partition import PARTITIONERS
from fedpipe.datasets.pool import Arrived, TrainingSamples
from fedpipe.errors import PipelineError
from fedpipe.partitioning import validation_samples
from fedpipe.partitioning.assignment import assign_before_validation, client_names
from fedpipe.seeds import Purpose, generator


@dataclass(frozen=True)
class Dealt:
    """Who has which training sample.

    Attributes:
      assignment: The client of each sample, or `LEFT_OUT`: int [samples].
      clients: How many clients there are: those of ``partition.clients``, and new ones.
      names: Columns client and name, where the clients have names.
      validation: The validation samples: their indices, ascending.
    """

    assignment: np.ndarray
    clients: int
    names: pd.DataFrame | None
    validation: np.ndarray


def deal(samples: TrainingSamples, params: Partition) -> Dealt:
    """Deals the training samples; without batches as `assignment.assign` does.

    Raises:
      PipelineError: As `assign`; or a batch does not name clients, and the scheme's clients have names; or it names new
        ones, and ``partition.sites`` says who has which.
    """
    labels, names = samples.labels[: samples.published], client_names(params)
    published, held = assign_before_validation(labels, params)
    new = _New(labels, published.copy(), params)
    if len(held) and samples.batches and not PARTITIONERS.of(params.scheme).NAMES_SAMPLES:
        published[held] = new.deal(Arrived(len(held), np.arange(len(held)), labels[held]))
    if names is None:
        parts = [new.deal(batch) for batch in samples.batches]
        clients = params.clients
    else:
        numbers = {str(name): number for number, name in enumerate(names["name"])}
        withdrawn = [numbers[name] for name in samples.withdrawn_clients if name in numbers]
        published[np.isin(published, withdrawn)] = LEFT_OUT
        parts = [_by_name(batch, numbers, params) for batch in samples.batches]
        of_sites = params.clients if params.sites is not None else len(numbers)
        if new_names := list(numbers)[of_sites:]:
            raise PipelineError(
                f"params.yaml: 'partition.sites' has {of_sites} clients, and batches of the pool name "
                f"{len(new_names)} new ones ({', '.join(new_names[:3])}), which belong to no site: withdraw these "
                "batches, or set sites to null"
            )
        clients, names = len(numbers), pd.DataFrame({"client": np.arange(len(numbers)), "name": list(numbers)})
    assignment = np.concatenate([published, *parts])
    validation = _validation(samples, params)
    assignment[validation] = LEFT_OUT
    return Dealt(assignment, clients, names, validation)


def published_clients(labels: np.ndarray, params: Partition) -> list[str]:
    """The client of each published sample that has one, by name; none where the scheme's clients have no names.

    Raises:
      PipelineError: As `assign`.
    """
    names = client_names(params)
    if names is None:
        return []
    assignment = assign_before_validation(labels, params)[0]
    return [str(names["name"][client]) for client in assignment[assignment != LEFT_OUT]]


class _New:
    """Deals one batch after the other by the scheme's ``assign_new``."""

    def __init__(self, labels: np.ndarray, published: np.ndarray, params: Partition) -> None:
        has_client = published != LEFT_OUT
        self._labels, self._clients = labels[has_client], published[has_client]
        self._params, self._before = params, 0

    def deal(self, batch: Arrived) -> np.ndarray:
        """The client of each of its samples: int [samples]."""
        params = self._params
        new = NewSamples(
            batch.labels, batch.positions, batch.came, self._before, self._labels, self._clients, params.clients
        )
        # By the number of samples before it: no two batches have the same.
        rng = generator(params.seed, Purpose.NEW_SAMPLES, self._before)
        self._before += batch.came
        dealt = PARTITIONERS.of(params.scheme).assign_new(new, rng)
        if dealt.shape != batch.labels.shape or (len(dealt) and (dealt.min() < 0 or dealt.max() >= params.clients)):
            raise PipelineError(
                f"{PARTITIONERS.folder}/{params.scheme}.py: 'assign_new' must return for each of the "
                f"{len(batch.labels)} samples a client from 0 to {params.clients - 1}"
            )
        return dealt


def _by_name(batch: Arrived, numbers: dict[str, int], params: Partition) -> np.ndarray:
    """The client of each sample of ``batch``; names that are new are added to ``numbers``."""
    if not len(batch.labels):
        return np.empty(0, np.int64)
    if batch.clients is None:
        raise PipelineError(
            f"params.yaml: 'partition.scheme' is {params.scheme}, whose clients have names, but a batch of the pool "
            f'({len(batch.labels)} samples) names no clients: withdraw it (make incoming ARGS="withdraw NAME"), and '
            "bring its samples again with the array 'clients'"
        )
    for name in _in_order(batch.clients):
        numbers.setdefault(name, len(numbers))
    return np.array([numbers[str(name)] for name in batch.clients], np.int64)


def _in_order(names: np.ndarray) -> Iterable[str]:
    """Each name once, in the order in which they come."""
    return dict.fromkeys(map(str, names))


def _validation(samples: TrainingSamples, params: Partition) -> np.ndarray:
    """The indices of the validation samples.

    Drawn among all samples that ever came. So a withdrawn one leaves its place empty: a sample that takes it would be
    one that clients trained on.
    """
    starts = samples.published + np.cumsum([0, *(batch.came for batch in samples.batches)])
    ever = [np.arange(samples.published), *(s + b.positions for s, b in zip(starts, samples.batches, strict=False))]
    chosen = validation_samples.sample(int(starts[-1]), params)
    return np.flatnonzero(np.isin(np.concatenate(ever), chosen))
