"""What a coordinator makes of sites' answers."""

import pytest

from fedpipe.errors import PipelineError
from fedpipe.federation.answers import read_answer
from fedpipe.federation.messages import Answer, Description, pack


def test_what_a_site_says_is_one_line_of_bounded_length() -> None:
    hostile = pack(Answer(refused=["no\x1b[2J\nerror: train again", "x" * 9000]))
    with pytest.raises(PipelineError, match=r"^site-1: no \[2J error: train again; x+\.\.\.$") as raised:
        read_answer("site-1", hostile, Description)
    assert len(str(raised.value)) < 2100
    with pytest.raises(PipelineError, match=r"^site-1: it answers another question$"):
        read_answer("site-1", pack(Answer()), Description)
