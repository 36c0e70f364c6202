"""What a coordinator makes of sites' answers."""

from collections.abc import Callable, Iterator, Mapping

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
    class Link:
        about = ""

        def __init__(self, samples: np.ndarray) -> None:
            self._samples = samples

        def connected(self) -> list[str]:
            return ["site-1"]

        def ask(
            self, questions: Mapping[str, bytes], lost: Callable[[SitesLostError], None] = raise_lost
        ) -> Iterator[tuple[str, bytes]]:
            for site in questions:
                told = Description(
                    site=site,
                    dataset="mnist",
                    image_shape=[28, 28, 1],
                    classes=10,
                    digest="a" * 64,
                    policy={},
                    counts="exact",
                    shared={},
                )
                yield site, pack(told, [self._samples])

    assert described(Link(np.array([3, 0])), ["site-1"])[1][0].samples.tolist() == [3, 0]
    with pytest.raises(PipelineError, match=f"site-1: .*{mistake}"):
        described(Link(samples), ["site-1"])
