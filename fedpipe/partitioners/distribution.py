"""Scheme ``distribution``: the label mixes are a given table p [clients, labels].

With ``proportions_of: clients`` row i is the mix of client i and sums to 1: of its n_i samples, n_i p_ic have label
c, rounded. Samples that no mix asks for are those left out. With ``proportions_of: labels`` column c says how the N_c
samples of label c are split and sums to 1: client i has N_c p_ic of them, rounded. So the table decides the sizes.

Source: no paper's; the table is the user's. (flwr-datasets' ``DistributionPartitioner`` is another scheme: its table
splits each label over a few partitions that follow from the label's number, after Li et al. 2020, "Federated
Optimization in Heterogeneous Networks", https://arxiv.org/abs/1812.06127.)
"""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from fedpipe.allocation.controlled_rounding import controlled_rounding
from fedpipe.allocation.counts import LEFT_OUT, apportion, deal, draw_samples
from fedpipe.allocation.given_tables import by_client, cell, read_table
from fedpipe.config.pinned_table import PinnedTable
from fedpipe.errors import PipelineError

_SUM_TOLERANCE = 1e-3  # proportions written with three digits, such as 0.333, are taken, and scaled to the sum 1
SEES_ALL_SAMPLES = True
FOR_GIVEN_SIZES = "'distribution.proportions_of' to clients"


class Params(PinnedTable):
    """The table, as rows of ``values`` or as a CSV file with the columns client and each label, and what sums to 1."""

    proportions_of: Literal["clients", "labels"]
    values: list[list[Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]]]

    def check_chosen(self) -> None:
        """There is one table."""
        if bool(self.values) == bool(self.table):
            raise ValueError(
                "scheme distribution needs either 'partition.distribution.values' or 'partition.distribution.table'"
            )


def decides_sizes(params: Params) -> bool:
    """If the table says how labels are split."""
    return params.proportions_of == "labels"


def assign(labels: np.ndarray, sizes: np.ndarray, params: Params, rng: np.random.Generator) -> np.ndarray:
    """The client of each sample, or `LEFT_OUT`: int [samples].

    Args:
      labels: int [samples].
      sizes: How many samples each client gets, int [clients]; of ``proportions_of: labels`` only their number and
        their sum count.
      params: The table.
      rng: Decides between equal fractions when rounding, and which samples a client gets.

    Raises:
      PipelineError: The table cannot be read or is not as it should be, the mixes ask for more samples of a label than
        there are, or a client would get none.
    """
    if params.proportions_of == "clients":
        classes, supply = np.unique(labels, return_counts=True)
        proportions = _proportions(params, len(sizes), classes)
        counts = controlled_rounding(sizes, proportions, supply, rng)
        lacking = int(sizes.sum() - counts.sum())
        if lacking:
            raise _too_much(sizes @ proportions, supply, lacking, len(sizes))
        return deal(labels, counts.T, rng)
    kept = draw_samples(len(labels), int(sizes.sum()), rng)
    assignment = np.full(len(labels), LEFT_OUT, np.int64)
    assignment[kept] = _split_labels(labels[kept], len(sizes), params, rng)
    return assignment


def _split_labels(labels: np.ndarray, clients: int, params: Params, rng: np.random.Generator) -> np.ndarray:
    classes, supply = np.unique(labels, return_counts=True)
    proportions = _proportions(params, clients, classes)
    counts = np.array([apportion(total, share) for total, share in zip(supply, proportions.T, strict=True)])
    none = np.flatnonzero(counts.sum(axis=0) == 0)
    if len(none):
        raise PipelineError(
            f"params.yaml: 'partition.distribution' gives {len(none)} clients no sample, the first of them client "
            f"{none[0]}; each needs a proportion that makes at least one sample of some label"
        )
    return deal(labels, counts, rng)


def _proportions(given: Params, clients: int, classes: np.ndarray) -> np.ndarray:
    """The given proportions float [clients, labels], scaled to sums of exactly 1.

    Args:
      given: Where they are, and whether rows or columns sum to 1.
      clients: How many rows there must be.
      classes: The labels that occur, ascending; a table has a column of each one's name.

    Raises:
      PipelineError: They cannot be read, are not clients x labels, one is negative or not a number, or a sum differs
        from 1 by more than `_SUM_TOLERANCE`.
    """
    if given.table:
        where, proportions = given.table, _table_proportions(given, clients, classes)
    else:
        where = "params.yaml: 'partition.distribution.values'"
        widths = sorted({len(row) for row in given.values})
        if len(given.values) != clients or widths != [len(classes)]:
            raise PipelineError(
                f"{where} has {len(given.values)} rows of {' or '.join(map(str, widths))} proportions, but must have "
                f"{clients} rows (a client each) of {len(classes)} (a label each: {_listed(classes)})"
            )
        proportions = np.array(given.values, np.float64)
    of_clients = given.proportions_of == "clients"
    sums = proportions.sum(axis=1 if of_clients else 0)
    wrong = np.flatnonzero(np.abs(sums - 1) > _SUM_TOLERANCE)
    if len(wrong):
        whose = f"client {wrong[0]}" if of_clients else f"label {classes[wrong[0]]}"
        raise PipelineError(
            f"{where}: the proportions of {whose} sum to {sums[wrong[0]]:.6g}, but must sum to 1 (within "
            f"{_SUM_TOLERANCE:g}), as those of each of the {given.proportions_of} must ('partition.distribution."
            "proportions_of' in params.yaml)"
        )
    return proportions / (sums[:, None] if of_clients else sums)


def _table_proportions(given: Params, clients: int, classes: np.ndarray) -> np.ndarray:
    path, names = given.table, [str(label) for label in classes]
    table = read_table("distribution", given, ["client", *names])
    others = [column for column in table.columns if column not in ("client", *names)]
    if others:
        raise PipelineError(f"{path} has a column '{others[0]}', but the samples' labels are {_listed(classes)}")
    table = by_client(table, clients, path)
    import pandas as pd  # here, as in given_tables.py

    numbers = table[names].apply(pd.to_numeric, errors="coerce").astype(np.float64)
    wrong = ~(np.isfinite(numbers) & (numbers >= 0))
    for name in names:
        if wrong[name].any():
            raise PipelineError(f"{cell(table, name, wrong[name], path)}, which is not a proportion from 0 to 1")
    return numbers.to_numpy()


def _too_much(demand: np.ndarray, supply: np.ndarray, lacking: int, clients: int) -> PipelineError:
    """The sentence for mixes that the samples cannot make, with how many samples they can."""
    dealt, samples = round(demand.sum()), int(supply.sum())
    possible = int(np.min(supply[demand > 0] / demand[demand > 0]) * dealt)
    scarce = int(np.argmax(demand - supply))
    limit = possible if possible < dealt else dealt - lacking
    if limit < clients:
        return PipelineError(
            f"params.yaml: the mixes of 'partition.distribution' ask for {demand[scarce]:.0f} samples of a label of "
            f"which there are {supply[scarce]}; they cannot be dealt to {clients} clients of 1 or more "
            f"samples, because at most {limit} samples have these proportions; take fewer clients, or other mixes"
        )
    if possible < dealt:
        return PipelineError(
            f"params.yaml: the mixes of 'partition.distribution' ask for {demand[scarce]:.0f} samples of a label of "
            f"which there are {supply[scarce]}; in these proportions at most {possible} of the {samples} samples can "
            f"be dealt out, so set 'partition.leave_out' to {samples - possible} or more"
        )
    return PipelineError(
        f"params.yaml: the mixes of 'partition.distribution', rounded to whole samples, ask for {lacking} samples "
        f"more of some labels than there are; raise 'partition.leave_out' by {lacking} or more"
    )


def _listed(classes: np.ndarray) -> str:
    return ", ".join(map(str, classes))
