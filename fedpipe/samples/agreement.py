"""Whether samples that several sites have are of one kind: what differs is named, and no value that a site has."""

from collections.abc import Iterator

from fedpipe.samples.columns import Columns
from fedpipe.samples.kind import Format, Kind


def differences(agreed: Kind, own: Kind) -> list[str]:
    """How a kind differs from the ``agreed`` one, one phrase each; nothing if samples can be in one training.

    Phrases name columns of the agreed kind only, since a coordinator reads them. The column of clients is a site's own.
    """
    return list(_differences(agreed, own))


def _differences(agreed: Kind, own: Kind) -> Iterator[str]:
    ours, theirs = own.format, agreed.format
    if agreed.shape != own.shape:
        yield f"samples are {tuple(own.shape)}, not {tuple(agreed.shape)}"
    if agreed.classes != own.classes:
        yield f"{own.classes} classes, not {agreed.classes}"
    if theirs.samples != ours.samples:
        yield f"samples are {ours.samples}, not {theirs.samples}"
    if theirs.tokens != ours.tokens:
        yield "another number of tokens"
    if theirs.numbers != ours.numbers:
        yield "other variances or bins of labels that are numbers"
    if theirs.standard != ours.standard:
        yield "other means or deviations"
    if (theirs.columns is None) != (ours.columns is None):
        yield f"samples are {'no ' if ours.columns is None else ''}rows of a table"
    elif theirs.columns is not None and ours.columns is not None:
        yield from _of_columns(theirs.columns, ours.columns)


def _of_columns(agreed: Columns, own: Columns) -> Iterator[str]:
    if agreed.names != own.names or agreed.label != own.label:
        yield "other columns, or in another order"
        return
    for theirs, ours in zip(agreed.numbers, own.numbers, strict=False):
        if theirs != ours:
            yield f"another mean, deviation or filling of column '{theirs.name}'"
    for category, our in zip(agreed.categories, own.categories, strict=False):
        if category != our:
            yield f"other categories or another filling of column '{category.name}'"
    if agreed.classes != own.classes:
        yield "other classes of the label"


def shared(own: Format) -> Format:
    """The format without what is a site's own: the column of clients."""
    if own.columns is None or own.columns.client is None:
        return own
    return own.model_copy(update={"columns": own.columns.model_copy(update={"client": None})})
