"""What a coordinator makes of sites' answers."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from fedpipe.errors import PipelineError, SitesLostError
from fedpipe.federation.answers import described, raise_lost, read_answer
from fedpipe.federation.messages import Answer, Description, pack


def test_what_a_site_says_is_one_line_of_bounded_length() -> None:
    hostile = pack(Answer(refused=["no\x1b[2J\nerror: train again", "x" * 9000]))
    with pytest.raises(PipelineError, match=r"^site-1: no \[2J error: train again; x+\.\.\.$") as raised:
        read_answer("site-1", hostile, Description)
    assert len(str(raised.value)) < 2100
    with pytest.raises(PipelineError, match=r"^site-1: it answers another question$"):
        read_answer("site-1", pack(Answer()), Description)


class Answers:
    """A link to sites that describe themselves."""

    about = ""

    def __init__(self, samples: np.ndarray, **of_site: dict[str, Any]) -> None:
        """``of_site``: what sites, by name with an underscore, say otherwise."""
        self._samples, self._of_site = samples, of_site

    def connected(self) -> list[str]:
        return ["site-1", "site-2"]

    def ask(
        self, questions: Mapping[str, bytes], lost: Callable[[SitesLostError], None] = raise_lost
    ) -> Iterator[tuple[str, bytes]]:
        for site in questions:
            fields: dict[str, Any] = {"dataset": "mnist", "image_shape": [28, 28, 1], "classes": 10, "digest": "a" * 64}
            fields |= {"policy": {}, "counts": "exact"}
            fields |= self._of_site.get(site.replace("-", "_"), {})
            yield site, pack(Description(site=site, **fields), [self._samples])


@pytest.mark.parametrize(
    ("samples", "mistake"),
    [
        (np.array([3, -1]), "is not from 0 to"),
        (np.array([2**62, 2**62]), "is not from 0 to"),
        (np.array([3, 4], np.int32), "are not int64"),
        (np.array([[3]]), "are not int64"),
    ],
)
def test_numbers_of_samples_that_cannot_be_are_refused(samples: np.ndarray, mistake: str) -> None:
    assert described(Answers(np.array([3, 0])), ["site-1"])[1][0].samples.tolist() == [3, 0]
    with pytest.raises(PipelineError, match=f"site-1: .*{mistake}"):
        described(Answers(samples), ["site-1"])


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({"dataset": "digits"}, "site-2 has digits, samples .* of 10 classes, and site-1 has mnist"),
        ({"classes": 9}, "of 9 classes, and site-1 .* of 10 classes: sites must agree .*'download.idx.classes'"),
        ({"image_shape": [8, 8, 1]}, r"samples \[8, 8, 1\] of 10"),
        (
            {"differs": ["other classes of the label"]},
            "site-2 has other samples than the coordinator: other classe",
        ),
        ({"counts": "rounded"}, "site-2: its numbers of samples are not rounded, as it says they are"),
        ({"counts": "withheld"}, "site-2: its numbers of samples are not withheld"),
    ],
)
def test_a_site_that_differs_is_refused(other: dict[str, Any], sentence: str) -> None:
    names, samples = ["site-1", "site-2"], np.array([3, 4])
    assert len(described(Answers(samples), names)[0]) == 2
    with pytest.raises(PipelineError, match=sentence):
        described(Answers(samples, site_2=other), names)
