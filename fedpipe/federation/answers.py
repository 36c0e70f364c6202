"""Asks sites for their facts, and reads their answers."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from fedpipe.datasets.shards import SiteShards
from fedpipe.errors import PipelineError, SitesLostError
from fedpipe.federation.counts import could_be
from fedpipe.federation.messages import Answer, Describe, Description, Message, Parcel, pack, unpack_answer
from fedpipe.samples.agreement import shared
from fedpipe.samples.kind import Format

_LONGEST = 2000  # characters of a site's error
_TOO_MANY = 2**31  # samples of a client; sums of them stay in int64


def raise_lost(error: SitesLostError) -> None:
    """The default treatment of lost sites.

    Raises:
      SitesLostError: The ``error``.
    """
    raise error


class Link(Protocol):
    """Brings questions to sites."""

    about: str  # the request's subject, such as ``round 3``, for lines about awaited sites

    def ask(
        self, questions: Mapping[str, bytes], lost: Callable[[SitesLostError], None] = raise_lost
    ) -> Iterator[tuple[str, bytes]]:
        """Asks each site its question, and yields the sites' answers as they arrive.

        ``lost`` is called with sites that were not connected, did not answer for too long, or sent something else than
        an answer; if it returns, the others are waited for.

        Raises:
          WorkersLostError: A site is lost, and this link cannot continue without it.
        """

    def connected(self) -> Collection[str]:
        """The names of the sites that are connected."""


def described(
    link: Link,
    names: Sequence[str],
    lost: Callable[[SitesLostError], None] = raise_lost,
    samples: Format | None = None,
) -> tuple[list[Description], list[SiteShards]]:
    """The sites' facts and policies, and each one's shards, in the order of ``names``.

    Args:
      link: Reaches the sites.
      names: Of the sites.
      lost: As of `Link.ask`; if it returns, the others are described.
      samples: The format that all sites' samples and labels must have; None compares none.

    Raises:
      PipelineError: A site does not answer, or has another data set, image shape or number of classes.
    """
    question = pack(Describe(samples=None if samples is None else shared(samples)))
    answers = link.ask(dict.fromkeys(names, question), lost)
    parcels = {site: read_answer(site, answer, Description) for site, answer in answers}
    names = [name for name in names if name in parcels]
    if not names:
        return [], []
    first = parcels[names[0]].message
    shards = []
    for name in names:
        description, arrays = parcels[name]
        if description.site != name:
            raise PipelineError(f"{name}: it calls itself {description.site}")
        _require_agreement(first, description)
        if description.differs:
            raise PipelineError(
                f"{name} has other samples than the coordinator: {shown('; '.join(description.differs))}: sites apply "
                "data/raw/dataset.json of the coordinator ('download.agreed' in a site's params.yaml)"
            )
        if len(arrays) != 1 or arrays[0].dtype != np.int64 or arrays[0].ndim != 1:
            raise PipelineError(f"{name}: its numbers of samples are not int64 [clients]")
        if description.counts != "withheld" and ((arrays[0] < 0) | (arrays[0] >= _TOO_MANY)).any():
            raise PipelineError(f"{name}: a client's number of samples is not from 0 to {_TOO_MANY - 1:,}")
        if not could_be(arrays[0], description.counts):
            raise PipelineError(f"{name}: its numbers of samples are not {description.counts}, as it says they are")
        shards.append(
            SiteShards(
                name, description.digest, arrays[0], None if description.counts == "exact" else description.counts
            )
        )
    return [parcels[name].message for name in names], shards


def _require_agreement(first: Description, other: Description) -> None:
    """Raises PipelineError if two sites have samples of other kinds."""
    ours = (first.dataset, first.image_shape, first.classes)
    theirs = (other.dataset, other.image_shape, other.classes)
    if ours != theirs:
        raise PipelineError(
            f"{other.site} has {shown(theirs[0])}, samples {theirs[1]} of {theirs[2]} classes, and {first.site} has "
            f"{shown(ours[0])}, samples {ours[1]} of {ours[2]} classes: sites must agree ('download.idx.name' and "
            "'download.idx.classes' in a site's params.yaml say its name and the number of classes)"
        )


def read_answer(site: str, content: bytes, kind: type[Message]) -> Parcel:
    """The answer of ``site``, of this ``kind``.

    Raises:
      PipelineError: It is none, or the site refuses to describe itself.
    """
    try:
        answer = unpack_answer(content)
    except PipelineError as error:
        raise PipelineError(f"{site}: {error}") from None
    if isinstance(answer.message, kind):
        return answer
    refused = answer.message.refused if isinstance(answer.message, Answer) else []
    raise PipelineError(f"{site}: {shown('; '.join(refused)) or 'it answers another question'}")


def shown(text: str) -> str:
    """A site's words for a terminal or a log: in one line, without control characters, and not too many."""
    printable = "".join(each if each.isprintable() else " " for each in text[:_LONGEST])
    return printable if len(text) <= _LONGEST else f"{printable}..."
