"""A site's part in the secure sums of a training: it answers steps of the protocol, and its own sum leaves masked only.

A question has a step's bytes, and with the first step of a round what a question for sums has. The sum is computed when
the letters have come, and only if the step was not answered before.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedpipe.errors import PipelineError
from fedpipe.federation.messages import Pass, Secure
from fedpipe.federation.pinned_roster import PinnedRoster
from fedpipe.learning.fixed_point import FixedPoint
from fedpipe.secure_aggregation.coordinator_messages import Begin, Delivery, Survivors, largest_request
from fedpipe.secure_aggregation.encoding import joined
from fedpipe.secure_aggregation.message import kind_of
from fedpipe.secure_aggregation.refusal import Refused
from fedpipe.secure_aggregation.site import STEPS, Site
from fedpipe.secure_aggregation.vector import Vector

# The question, its arrays -> the leaves of its chunks' sums, one after the other, within the site's policy.
Sums = Callable[[Pass, list[np.ndarray]], list[np.ndarray]]


@dataclass(frozen=True)
class Party:
    """A site as its fellow sites know it."""

    identity: Ed25519PrivateKey
    roster: PinnedRoster  # as the site has pinned it

    def refused(self, name: str, sites: int, roster: str) -> list[str]:
        """Why the site takes no part in secure sums, one sentence each.

        Args:
          name: Of the site.
          sites: How many the coordinator reports.
          roster: The digest of the coordinator's copy.
        """
        pinned = self.roster
        own = self.identity.public_key().public_bytes_raw()
        if name not in pinned.names or pinned.roster.identity(pinned.number(name)) != own:
            return [f"its roster has another identity for {name} than its own: exchange public keys again"]
        if roster != pinned.digest:
            return [
                f"its roster is not the coordinator's ({pinned.digest[:12]}, not {roster[:12]}): all of them need the "
                "same roster.yaml"
            ]
        if sites != len(pinned.names):
            return [f"its roster has {len(pinned.names)} sites, and the training {sites}"]
        return []


class SecurePart:
    """A site in the secure sums of one training."""

    def __init__(
        self,
        party: Party,
        run: str,
        shared: bytes,
        fixed_point: FixedPoint,
        least_sites: int,
        journal: Path,
        sums: Sums,
    ) -> None:
        """Resumes the attempt that the journal has.

        Args:
          party: The site.
          run: As of `PinnedRoster.setting`.
          shared: Likewise.
          fixed_point: Makes integers of sums.
          least_sites: In a sum, as the site's policy says.
          journal: The folder of the identity's journal.
          sums: Computes them.

        Raises:
          PipelineError: The journal is in use or damaged.
        """
        self._setting = party.roster.setting(run, shared, fixed_point)
        self._site = Site(party.identity, self._setting, journal)
        self._fixed_point, self._least_sites, self._sums = fixed_point, least_sites, sums
        self._pass: tuple[Pass, list[np.ndarray]] | None = None  # the last that came
        self._model = b""  # its digest

    def close(self) -> None:
        """Frees the journal."""
        self._site.close()

    def answer(self, question: Secure, arrays: list[np.ndarray]) -> bytes | None:
        """The answer to a step; None if the question for sums that belongs to it is not here.

        Raises:
          Refused: The protocol does not continue with this step.
          PipelineError: The policy does not let the sum out, or a client failed.
        """
        step = step_of(arrays, largest_request(self._setting))
        if question.chunks:
            self._pass = question.as_pass(), arrays[1:]
            self._model = model_digest(arrays[1 : len(arrays) - len(question.chunks)])
        kind = kind_of(step)
        if self._pass is None and kind in (Begin.KIND, Delivery.KIND):
            return None
        if kind == Survivors.KIND and len(Survivors.decode(step).sites) < self._least_sites:
            raise Refused(f"its policy wants {self._least_sites} sites in a sum at least")
        return self._site.answer(step, self._model, self._vector)

    def _vector(self) -> Vector:
        """The integers of the site's sum."""
        if self._pass is None or self._site.model != self._model:
            raise Refused("the sum that is asked for is of another model than the attempt that is under way")
        question, arrays = self._pass
        leaves = self._sums(question, arrays)
        size = len(leaves) // len(question.chunks)
        chunks = [leaves[start : start + size] for start in range(0, len(leaves), size)]
        return self._fixed_point.vector(self._fixed_point.merged(chunks))


def step_name(arrays: Sequence[np.ndarray]) -> str:
    """Of the step in a question, such as ``mask``, with which a site's integers leave it; empty if it has none."""
    if not arrays or arrays[0].dtype != np.uint8 or arrays[0].ndim != 1:
        return ""
    step = STEPS.get(kind_of(arrays[0].tobytes()) or 0)
    return "" if step is None else step.name.lower()


def model_digest(leaves: Sequence[np.ndarray]) -> bytes:
    """The digest that identifies a model, 32 bytes: the message to clients, without who they are.

    Args:
      leaves: Of the message.
    """
    parts = [part for leaf in leaves for part in (f"{leaf.dtype.str} {leaf.shape}".encode(), leaf.tobytes())]
    return hashlib.sha256(joined(*parts)).digest()


def step_of(arrays: list[np.ndarray], most: int) -> bytes:
    """The step in a question.

    Raises:
      PipelineError: It has none of at most ``most`` bytes.
    """
    if not arrays or arrays[0].dtype != np.uint8 or arrays[0].ndim != 1 or len(arrays[0]) > most:
        raise PipelineError(f"a question for a secure sum must begin with a step, uint8 of at most {most} bytes")
    return arrays[0].tobytes()
