"""From the params to the client of each published sample: the chosen quantity, then the chosen scheme.

``partition.quantity`` names a file of fedpipe/quantities, whose ``sizes`` says how many samples each client gets;
``partition.scheme`` one of fedpipe/partitioners, whose ``assign`` says which. docs/extending.md has what such a file
declares. growth.py deals the samples that came since.
"""

import numpy as np
import pandas as pd

from fedpipe.allocation.counts import LEFT_OUT, draw_samples
from fedpipe.config import Partition
from fedpipe.contracts.partition import PARTITIONERS, QUANTITIES
from fedpipe.errors import PipelineError
from fedpipe.partitioning import validation_samples
from fedpipe.seeds import Purpose, generator


def assign(labels: np.ndarray, params: Partition) -> np.ndarray:
    """The client of each sample, or `LEFT_OUT`: int [samples].

    Left out are the validation samples (validation_samples.py) and exactly ``params.leave_out`` others. The scheme
    deals the samples that are not for validation; one that declares ``NAMES_SAMPLES`` deals all of them by their
    numbers, and the validation samples are taken from their clients. No client gets none, unless a ``min_size`` of 0 in
    the params allows it. Which samples are left out is a seeded draw, unless the scheme declares ``SEES_ALL_SAMPLES``
    and so leaves them out itself.

    Args:
      labels: int [samples].
      params: The section ``partition``.

    Raises:
      PipelineError: The request cannot be met, and the message says what would be possible; or a file of a folder does
        not keep to what it must return.
    """
    assignment, validation = assign_before_validation(labels, params)
    assignment[validation] = LEFT_OUT
    return assignment


def assign_before_validation(labels: np.ndarray, params: Partition) -> tuple[np.ndarray, np.ndarray]:
    """As `assign`, but validation samples have the clients that the scheme's table names for them, if it does.

    Returns:
      The client of each sample, or `LEFT_OUT`: int [samples]; and the validation samples: their indices, ascending.
    """
    validation = validation_samples.sample(len(labels), params)
    count = len(labels) - len(validation) - params.leave_out
    if count < params.clients:
        of_validation = f" and the {params.validation} of 'partition.validation'" if params.validation else ""
        raise PipelineError(
            f"params.yaml: 'partition.clients' is {params.clients}, but there are only {max(count, 0)} samples "
            f"({len(labels)} less the {params.leave_out} of 'partition.leave_out'{of_validation}); a client needs at "
            "least one"
        )
    if not PARTITIONERS.of(params.scheme).NAMES_SAMPLES:
        others = np.delete(np.arange(len(labels)), validation)
        assignment = np.full(len(labels), LEFT_OUT, np.int64)
        assignment[others] = _dealt(labels[others], params)
        return assignment, validation
    assignment = _dealt(labels, params)
    left = np.delete(assignment, validation)
    lost = np.setdiff1d(assignment, [*np.unique(left), LEFT_OUT])
    if len(lost):
        raise PipelineError(
            f"params.yaml: 'partition.validation' is {params.validation}, which takes all samples of {len(lost)} "
            f"clients, the first of them client {lost[0]}: lower it, or give these clients' samples to others"
        )
    return assignment, validation


def _dealt(labels: np.ndarray, params: Partition) -> np.ndarray:
    """The client of each sample, or `LEFT_OUT` for ``params.leave_out`` of them: int [samples]."""
    count = len(labels) - params.leave_out
    rng = generator(params.seed, Purpose.PARTITION)
    scheme, quantity = PARTITIONERS.of(params.scheme), QUANTITIES.of(params.quantity)
    kept = np.arange(len(labels)) if scheme.SEES_ALL_SAMPLES else draw_samples(len(labels), count, rng)
    sizes = quantity.sizes(count, params.clients, params.params_of("quantity"), rng)
    _check_sizes(sizes, count, params)
    assignment = np.full(len(labels), LEFT_OUT, np.int64)
    if scheme.assign is None:
        raise PipelineError(f"params.yaml: 'partition.scheme' {params.scheme} deals no samples, for they are at sites")
    dealt = scheme.assign(labels[kept], sizes, params.params_of("scheme"), rng)
    _check_dealt(dealt, kept, params)
    assignment[kept] = dealt
    _check_assignment(assignment, sizes, params, exact=not scheme.decides_sizes(params.params_of("scheme")))
    return assignment


def client_names(params: Partition) -> pd.DataFrame | None:
    """Columns client and name: who the clients are, if the scheme's file has a function ``client_names``, else None.

    Raises:
      PipelineError: The scheme cannot read them.
    """
    client_names = PARTITIONERS.of(params.scheme).client_names
    if client_names is None:
        return None
    names = client_names(params.params_of("scheme"))
    return pd.DataFrame({"client": np.arange(len(names)), "name": names})


def _check_sizes(sizes: np.ndarray, count: int, params: Partition) -> None:
    """Without this check, a mistake in a file would be another partition than the params say."""
    file = f"{QUANTITIES.folder}/{params.quantity}.py: 'sizes'"
    if not _is_whole(sizes) or sizes.shape != (params.clients,) or sizes.min() < 0:
        raise PipelineError(f"{file} must return whole numbers from 0 on, one for each of the {params.clients} clients")
    if sizes.sum() != count:
        raise PipelineError(f"{file} must return numbers that sum to the {count} samples, not to {sizes.sum()}")


def _check_dealt(dealt: np.ndarray, kept: np.ndarray, params: Partition) -> None:
    if not _is_whole(dealt) or dealt.shape != kept.shape or dealt.min() < LEFT_OUT or dealt.max() >= params.clients:
        raise PipelineError(
            f"{PARTITIONERS.folder}/{params.scheme}.py: 'assign' must return for each of the {len(kept)} samples a "
            f"client from 0 to {params.clients - 1}, or {LEFT_OUT} for one that is left out"
        )


def _check_assignment(assignment: np.ndarray, sizes: np.ndarray, params: Partition, *, exact: bool) -> None:
    file = f"{PARTITIONERS.folder}/{params.scheme}.py: 'assign'"
    left_out = int((assignment == LEFT_OUT).sum())
    if left_out != params.leave_out:
        raise PipelineError(
            f"{file} leaves out {left_out} samples, not the {params.leave_out} of 'partition.leave_out'"
        )
    dealt = np.bincount(assignment[assignment != LEFT_OUT], minlength=params.clients)
    if exact and (dealt != sizes).any():
        client = int(np.argmax(dealt != sizes))
        raise PipelineError(
            f"{file} gives client {client} {dealt[client]} samples, not the {sizes[client]} of its 'sizes'; a scheme "
            "that decides the sizes itself declares it by a function 'decides_sizes' (docs/extending.md)"
        )


def _is_whole(numbers: object) -> bool:
    return isinstance(numbers, np.ndarray) and np.issubdtype(numbers.dtype, np.integer)
