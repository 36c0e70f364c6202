"""Asks sites what they have, and reads what they answer."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from fedpipe.datasets.shards import SiteShards
from fedpipe.errors import PipelineError
from fedpipe.federation.messages import Answer, Describe, Description, Message, Parcel, pack, unpack_answer

_LONGEST = 2000  # characters of what a site says
_TOO_MANY = 2**31  # samples of a client; sums of them stay in int64


class Link(Protocol):
    """Brings questions to sites."""

    def ask(self, questions: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
        """Asks each site its question, and yields the sites' answers as they arrive.

        Raises:
          WorkersLostError: A site did not answer for too long.
        """


def described(link: Link, names: Sequence[str]) -> tuple[list[Description], list[SiteShards]]:
    """What the sites have and allow, and each one's shards, in the order of ``names``.

    Raises:
      PipelineError: A site does not answer, or has another data set, image shape or number of classes.
    """
    question = pack(Describe())
    found = {site: read_answer(site, answer, Description) for site, answer in link.ask(dict.fromkeys(names, question))}
    first = found[names[0]].message
    shards = []
    for name in names:
        told, arrays = found[name]
        if told.site != name:
            raise PipelineError(f"{name}: it calls itself {told.site}")
        agreed = (told.dataset, told.image_shape, told.classes)
        if agreed != (first.dataset, first.image_shape, first.classes):
            raise PipelineError(
                f"{name} has {shown(told.dataset)}, images {told.image_shape} of {told.classes} classes, and "
                f"{first.site} has {shown(first.dataset)}, images {first.image_shape} of {first.classes} classes: "
                "sites must agree"
            )
        if len(arrays) != 1 or arrays[0].dtype != np.int64 or arrays[0].ndim != 1:
            raise PipelineError(f"{name}: its numbers of samples are not int64 [clients]")
        if ((arrays[0] < 0) | (arrays[0] >= _TOO_MANY)).any():
            raise PipelineError(f"{name}: a client's number of samples is not from 0 to {_TOO_MANY - 1:,}")
        shards.append(SiteShards(name, told.digest, arrays[0]))
    return [found[name].message for name in names], shards


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
