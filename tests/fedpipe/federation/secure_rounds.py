"""Rounds of secure sums over sites, without a training: the message to clients is made up."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from fedpipe.config.train import Train
from fedpipe.federation.messages import Secure, pack, unpack_answer, unpack_question
from fedpipe.federation.secure_sums import Part, Summed
from fedpipe.federation.site_passes import Chunk
from fedpipe.learning.wiring import Wiring
from fedpipe.learning.work_request import WorkRequest
from fedpipe.secure_aggregation.message import Message, kind_of
from tests.fedpipe.federation.sites import CLIENTS, NAMES, Sites


class Rounds:
    """Rounds of one training; each is asked for once."""

    def __init__(self, sites: Sites, settings: Train, journals: Path) -> None:
        """``journals``: the folder of the coordinator's."""
        self.sites, self.settings, self.journals = sites, settings, journals
        wiring = Wiring.of(settings, sites.coordinator)
        assert wiring.fixed_point is not None
        self.fixed_point = wiring.fixed_point
        self._message = list(wiring.process.passes[0].prepare.type_signature.result)
        self.numbers = count(101)
        self.restart()

    def restart(self) -> None:
        """A coordinator that was started anew: nothing stays but its journals."""
        with self.sites.training(self.settings, journals=self.journals) as federation:
            federation.begin(None, self.fixed_point)
            self.federation = federation
        assert federation.secure is not None
        self.secure = federation.secure

    def leaves(self, number: int) -> list[np.ndarray]:
        """A model, another one for each round."""
        *others, last = [np.zeros([side or 0 for side in kind.shape], kind.dtype) for kind in self._message]
        others[0] = others[0] + np.float32(number / 1000)
        return [*others, np.asarray(number, last.dtype)]

    def parts(self, *names: str) -> dict[str, Part]:
        """All clients of some sites, of all by default."""
        ends = dict(zip(NAMES, np.cumsum(CLIENTS).tolist(), strict=True))
        made = {}
        for name, clients in zip(NAMES, CLIENTS, strict=True):
            if name in (names or NAMES):
                requests = WorkRequest.of(range(ends[name] - clients, ends[name])).pack()
                question = Secure(training="0123456789abcdef", chunks=[[clients]], released=0)
                made[name] = Part(question, [requests])
        return made

    def total(self, number: int | None = None, *names: str) -> Summed:
        """A round's sum."""
        number = number or next(self.numbers)
        return self.secure.total(number, self.leaves(number), self.parts(*names), self.federation._steps)

    def summed_in_a_training(self, number: int) -> list[np.ndarray]:
        """The leaves of a round's sum, as a training asks for it."""
        chunks = {name: [Chunk(name, part.requests)] for name, part in self.parts().items()}
        self.federation.run_securely(self.leaves(number), chunks)
        leaves = chunks[NAMES[0]][0].sums
        assert leaves is not None
        return leaves

    @contextmanager
    def changing(self, kind: type[Message], name: str, change: Callable[[Any], Any]) -> Iterator[None]:
        """A coordinator that sends one site another message of this kind; ``change`` gets and returns messages."""

        def changed(site: str, content: bytes) -> bytes:
            step = step_of(content)
            if site != name or step is None or kind_of(step) != kind.KIND:
                return content
            return with_step(content, change(kind.decode(step)).encode())

        self.sites.changed = changed
        try:
            yield
        finally:
            self.sites.changed = lambda site, question: question


def step_of(content: bytes) -> bytes | None:
    """The step in a question; None if it has none."""
    question, arrays = unpack_question(content)
    return arrays[0].tobytes() if isinstance(question, Secure) else None


def with_step(content: bytes, step: bytes) -> bytes:
    """The question with another step."""
    question, arrays = unpack_question(content)
    return pack(question, [np.frombuffer(step, np.uint8), *arrays[1:]])


def refusal(answer: bytes) -> str:
    """Why a site does not answer; empty if it does."""
    return "; ".join(unpack_answer(answer).message.refused)
