"""The coordinator of a training's secure sums: five questions to each site and round, and the sum of all sites.

Every phase is on the disk before the next one begins, so a coordinator that was killed asks the same questions again.
The sum of a round stays on the disk until a checkpoint has the round: a training that resumes from an earlier round
reads it, for no site answers a round twice. One that begins before the rounds whose sums were removed has another name
in the protocol from there on, under which sites answer the same models in the same set of sites.
"""

import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fedpipe.atomic import atomic_file, sync_folder
from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import AGGREGATORS, has_secret_noise
from fedpipe.errors import PipelineError, WorkersLostError
from fedpipe.federation.messages import Secure, pack
from fedpipe.federation.pinned_roster import PinnedRoster
from fedpipe.federation.secure_site import model_digest
from fedpipe.learning.fixed_point import FixedPoint
from fedpipe.runtime.progress import say
from fedpipe.secure_aggregation.coordinator import Coordinator, Phase
from fedpipe.secure_aggregation.coordinator_messages import Begin
from fedpipe.secure_aggregation.refusal import Refused

_ATTEMPTS = 5  # of a round, one after the other
_RUN = "run"  # the file with the training's name in the protocol
_RELEASED = "released"  # the file with the last round whose sum may be gone
_EVERY_ROUND = 2**31 - 1
_NAME = re.compile(r"round-(\d+)-attempt-(\d+)")

# Asks sites their questions, and yields the arrays of those that are not lost. A site that was started anew gets the
# question that the function has for its name.
Ask = Callable[[dict[str, bytes], Callable[[str], bytes]], Iterator[tuple[str, list[np.ndarray]]]]


class Summed(NamedTuple):
    """A sum over sites."""

    leaves: list[np.ndarray]
    sites: list[str]  # that are in it


class AttemptOverError(WorkersLostError):
    """A site cannot continue an attempt, for instance because it was killed while it wrote its journal."""


@dataclass(frozen=True)
class Part:
    """The request to a site in a round."""

    question: Secure
    requests: list[np.ndarray]  # of each chunk, int32 [n, 4]

    def packed(self, step: bytes, leaves: list[np.ndarray]) -> bytes:
        """The question with a step and the message to clients."""
        return pack(self.question, [_array(step), *leaves, *self.requests])

    def short(self, step: bytes) -> bytes:
        """The question with a step, for a site that has the rest."""
        return pack(self.question.model_copy(update={"chunks": []}), [_array(step)])


class SecureSums:
    """The secure sums of one training."""

    def __init__(self, roster: PinnedRoster, folder: Path, keeps: bool = True) -> None:
        """Resumes the sums in ``folder``, or draws a name for new ones.

        Args:
          roster: The coordinator's copy of the sites' roster.
          folder: Of the training's journals.
          keeps: Whether there are checkpoints, from which a training may resume with an earlier round.

        Raises:
          PipelineError: The folder is damaged.
        """
        self.roster, self._folder, self._keeps = roster, folder, keeps
        if not keeps:
            shutil.rmtree(folder, ignore_errors=True)
        self._fixed_point: FixedPoint | None = None
        self._shared = b""
        self._open()

    @staticmethod
    def of(settings: Train, roster: Path, folder: Path) -> "SecureSums | None":
        """The secure sums of a training; None if its aggregator has none.

        Args:
          settings: Section train of params.yaml.
          roster: The file with the coordinator's copy.
          folder: As of `__init__`.

        Raises:
          PipelineError: The file is missing or no roster.
        """
        if not AGGREGATORS.of(settings.aggregator).SUMS_INTEGERS:
            return None
        keeps = settings.checkpoint.enabled and not has_secret_noise(settings)
        return SecureSums(PinnedRoster.read(roster), folder, keeps)

    def _open(self) -> None:
        """Reads the name of the sums and the last round whose sum may be gone, or draws a name."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if not (self._folder / _RUN).exists():
            self._write(_RUN, secrets.token_hex(32))
        self.run = self._read(_RUN, "[0-9a-f]{64}")
        self.released = int(self._read(_RELEASED, "[0-9]{1,10}")) if (self._folder / _RELEASED).exists() else 0

    def _read(self, name: str, pattern: str) -> str:
        file = self._folder / name
        text = file.read_text(encoding="ascii", errors="replace")
        if not re.fullmatch(pattern, text):
            raise PipelineError(f"{file} is damaged: remove {self._folder}, and train with another seed")
        return text

    def _write(self, name: str, text: str) -> None:
        with atomic_file(self._folder / name) as partial:
            partial.write_text(text, encoding="ascii")
        sync_folder(self._folder)

    def begin(self, fixed_point: FixedPoint | None, shared: bytes) -> None:
        """Takes how sums become integers, and the digest of what all sites were asked alike."""
        self._fixed_point, self._shared = fixed_point, shared

    def total(self, number: int, leaves: list[np.ndarray], parts: Mapping[str, Part], ask: Ask) -> Summed:
        """The sum over all sites that have clients in a round.

        Args:
          number: Of the round, from 1 on.
          leaves: Of the message to clients.
          parts: The request to each of these sites.
          ask: Brings questions to sites.

        Raises:
          WorkersLostError: There is no sum: sites are too few, are lost, refuse, or broke the rules.
        """
        if not self._keeps:
            self.release(number - 1)
        first, over = self._latest_attempt(number), ""
        for attempt in range(first, first + _ATTEMPTS):
            coordinator = self._coordinator(number, attempt, leaves)
            try:
                self._require_enough(coordinator, len(parts))
                self._run(coordinator, leaves, parts, ask)
                return self._summed(coordinator)
            except AttemptOverError as error:
                if coordinator.phase > Phase.MASK:
                    raise
                over = str(error)
                say(f"round {number}: {over}; begins the sum again")
            except Refused as error:
                at_fault = "" if error.site is None else f"{self.roster.name(error.site)}: "
                raise WorkersLostError(f"round {number} has no secure sum: {at_fault}{error}") from None
        raise WorkersLostError(f"round {number} has no secure sum after {_ATTEMPTS} attempts: {over}")

    def recorded(self, number: int, leaves: list[np.ndarray]) -> Summed | None:
        """The sum of a round that has one on the disk; None if it has none. Arguments as of `total`."""
        attempt = self._latest_attempt(number)
        if not self._journal(number, attempt).exists():
            return None
        coordinator = self._coordinator(number, attempt, leaves)
        return self._summed(coordinator) if coordinator.phase is Phase.DONE else None

    def weighed(self, leaves: list[np.ndarray], clients: int) -> list[np.ndarray]:
        """As of `FixedPoint.weighed`."""
        return self._known().weighed(leaves, clients)

    def release(self, number: int) -> None:
        """Removes the journals of rounds up to ``number``, which is on the disk before."""
        if number > self.released:
            self._write(_RELEASED, str(number))
            self.released = number
        for file in self._folder.glob("round-*"):
            name = _NAME.fullmatch(file.name)
            if name is not None and int(name[1]) <= number:
                file.unlink()

    def renew(self) -> None:
        """Removes all journals, and draws another name: for a round whose sum was removed and is needed again."""
        self.end()
        self._open()

    def _coordinator(self, number: int, attempt: int, leaves: list[np.ndarray]) -> Coordinator:
        """Of an attempt, as its journal has it."""
        setting = self.roster.setting(self.run, self._shared, self._known())
        begin = Begin.of(setting, number, attempt, model_digest(leaves))
        return Coordinator(setting, begin, self._journal(number, attempt))

    def _summed(self, coordinator: Coordinator) -> Summed:
        """The sum of an attempt that is done."""
        names = [self.roster.name(site) for site in sorted(coordinator.survivors)]
        return Summed(self._known().leaves(coordinator.result(), len(names)), names)

    def _known(self) -> FixedPoint:
        if self._fixed_point is None:
            raise PipelineError("a training begins before its first sum")
        return self._fixed_point

    def _journal(self, number: int, attempt: int) -> Path:
        return self._folder / f"round-{number:06d}-attempt-{attempt}"

    def _require_enough(self, coordinator: Coordinator, sites: int) -> None:
        """Raises Refused if a sum that has not begun would have too few ``sites``."""
        fewest = self.roster.roster.minimum
        if coordinator.phase is Phase.KEYS and sites < fewest:
            raise Refused(
                f"{sites} sites that are not lost have clients in it, and {fewest} are needed: start lost sites again, "
                "or set 'train.clients_per_round' to all"
            )

    def _run(self, coordinator: Coordinator, leaves: list[np.ndarray], parts: Mapping[str, Part], ask: Ask) -> None:
        """Sends the requests of each phase, until the sum is complete."""
        while coordinator.phase is not Phase.DONE:
            named = {self.roster.name(site): step for site, step in coordinator.requests().items()}
            steps = {name: step for name, step in named.items() if name in parts}

            def whole(name: str, steps: Mapping[str, bytes] = steps) -> bytes:
                return parts[name].packed(steps[name], leaves)

            is_first = coordinator.phase is Phase.KEYS
            questions = {name: whole(name) if is_first else parts[name].short(step) for name, step in steps.items()}
            for name, arrays in ask(questions, whole):
                if len(arrays) != 1 or arrays[0].dtype != np.uint8 or arrays[0].ndim != 1:
                    raise WorkersLostError(f"{name}: its answer to a step of a secure sum is not one array, uint8 [n]")
                coordinator.receive(self.roster.number(name), arrays[0].tobytes())
            coordinator.close()

    def _latest_attempt(self, number: int) -> int:
        """Of a round; 0 if there was none."""
        names = [_NAME.fullmatch(file.name) for file in self._folder.glob(f"round-{number:06d}-*")]
        return max((int(name[2]) for name in names if name is not None), default=0)

    def end(self) -> None:
        """Removes all journals: the training's outputs stand.

        Killed at any moment, it leaves no name with which a round that a site has answered would be asked again.
        """
        self.release(_EVERY_ROUND)
        sync_folder(self._folder)
        (self._folder / _RUN).unlink(missing_ok=True)
        shutil.rmtree(self._folder, ignore_errors=True)


def _array(step: bytes) -> np.ndarray:
    return np.frombuffer(step, np.uint8)
