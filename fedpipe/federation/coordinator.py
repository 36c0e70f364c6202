"""The sites of a federation as the place where chunks are computed: `Elsewhere` of fedpipe/runtime/chunks.py.

A site gets one question per pass, with the message and the requests to its clients, and answers with one sum per chunk.
An answer depends on the request alone, so a request is repeated when a site was lost with it.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from fedpipe.config.train import Train
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.datasets.shards import Manifest
from fedpipe.errors import PipelineError, WorkersLostError
from fedpipe.federation.answers import Link
from fedpipe.federation.fitting import require_counts, require_fitting, require_quorum, require_roster
from fedpipe.federation.kept_at_sites import LAST_ROUND, StatesAtSites
from fedpipe.federation.members import Members
from fedpipe.federation.messages import (
    Kept,
    Pass,
    Personal,
    Secure,
    pack,
    shared_digest,
)
from fedpipe.federation.secure_sums import Part, SecureSums
from fedpipe.federation.site_passes import ALL_CHUNKS, Chunk, SitePasses
from fedpipe.learning.fixed_point import FixedPoint
from fedpipe.runtime.progress import say


class Federation:
    """A training over sites.

    Attributes:
      members: The sites.
      secure: Their secure sums; None without.
      states: What their clients keep.
    """

    ahead = ALL_CHUNKS

    def __init__(
        self,
        link: Link,
        manifest: Manifest,
        settings: Train,
        training: str,
        secure: SecureSums | None = None,
        quorum: int | None = None,
    ) -> None:
        """Asks no site yet.

        Args:
          link: Reaches the sites.
          manifest: Of the clients, with their sites.
          settings: Section train of params.yaml.
          training: `training_key.name_of` its key.
          secure: The secure sums, for an aggregator that has them (`require_roster`).
          quorum: How many sites a training has at least while others are lost; None where none may be lost.

        Raises:
          PipelineError: Sites cannot train with these settings, or the manifest has none.
        """
        require_fitting(settings)
        if manifest.sites is None:
            raise PipelineError("the clients have no sites: partition them with 'partition.scheme' at_sites")
        require_counts(settings, manifest.sites)
        self._wants_weights = ALGORITHMS.of(settings.algorithm).ALL_WEIGHTS and not manifest.counts_are_exact
        self._link, self._manifest, self._training, self.secure = link, manifest, training, secure
        require_roster(settings, [site.name for site in manifest.sites], secure)
        self.members = Members(
            link, manifest, settings, training, secure=secure, quorum=quorum, wants_weights=self._wants_weights
        )
        saved = secure.release if secure is not None else lambda number: None
        owners = np.repeat(np.arange(len(manifest.sites)), [site.clients for site in manifest.sites])
        self.states = StatesAtSites(self._kept_digests, owners, saved)
        require_quorum(settings, len(manifest.sites), quorum)
        self._returned: set[str] = set()  # whose clients may have files of rounds in which they were lost
        self._training_passes = SitePasses(self, "training")

    def join(self) -> None:
        """Has all sites check the training and build their graphs.

        Raises:
          PipelineError: A site does not take part; the message has what each of them says.
        """
        self.members.let_join(self.members.names)
        names = self.members.present
        if self._wants_weights and self.members.lost:
            raise WorkersLostError(
                f"{', '.join(sorted(self.members.lost))}: the sum of its clients' weights is missing"
            )
        say(f"{len(names)} sites take part: {', '.join(names)}")

    @property
    def all_weights(self) -> float | None:
        """The sum of the weights of all clients, as sites tell it; None where exact numbers of samples say it.

        NaN where no site was asked, since the algorithm does not say that it reads it.
        """
        if self._manifest.counts_are_exact:
            return None
        return sum(self.members.weights.values()) if self._wants_weights else math.nan

    @property
    def fewest_sites(self) -> int | None:
        """How many sites a secure sum has at least; None without secure sums."""
        return None if self.secure is None else self.secure.roster.roster.minimum

    def begin(self, kept: Path | None, fixed_point: FixedPoint | None) -> None:
        """Waits until all sites are ready.

        Raises:
          PipelineError: A site cannot build the training.
        """
        if self.secure is not None:
            self.secure.begin(fixed_point, shared_digest(self.members.join_question(self.members.names[0])))
        self.members.get_ready()

    def begin_round(self, number: int) -> None:
        """Names the round in lines about sites."""
        self._link.about = f"round {number}"

    def make_personal(self, state: list[np.ndarray], last: np.ndarray) -> bool:
        """Each site makes and keeps those of its own clients."""
        question = Personal(training=self._training)
        questions = {
            name: pack(question, [*state, last[clients.start : clients.stop]])
            for name, (_, clients) in self.members.ranges.items()
        }
        missing = set(questions) - {site for site, _ in self.members.answers(questions)}
        if missing:
            raise WorkersLostError(f"{', '.join(sorted(missing))} could not make the clients' personal models")
        return True

    def losses(self) -> SitePasses:
        """Clients' losses are measured at their sites."""
        return SitePasses(self, "losses")

    def send(self, number: int, leaves: list[np.ndarray], clients: int) -> None:
        """Takes a pass's message; earlier ones are forgotten."""
        self._training_passes.send(number, leaves, clients)

    def start(self, message: None, groups: list[np.ndarray]) -> Chunk:
        """Notes a chunk, which is of one site."""
        return self._training_passes.start(message, groups)

    def result(self, started: Chunk) -> Sequence[Sequence[np.ndarray]]:
        """Asks all sites for the sums of this pass, if that has not been done, and returns one of them."""
        return self._training_passes.result(started)

    def site_of(self, client: int) -> str:
        """The name of the site that has ``client``."""
        return next(name for name, (_, clients) in self.members.ranges.items() if client in clients)

    def run(self, requests: Mapping[str, tuple[Pass, Sequence[np.ndarray]]]) -> Iterator[tuple[str, list[np.ndarray]]]:
        """Asks sites for sums, and yields their leaves; sites that are lost have none.

        Raises:
          PipelineError: An answer is none.
          WorkersLostError: A site refuses, or is lost where that must not be.
        """
        self._welcome(requests)
        yield from self.members.answers(
            {site: pack(*requests[site]) for site in requests if site not in self.members.lost}
        )

    def question(self, process: Literal["training", "losses"], number: int, chunks: list[Chunk]) -> Pass:
        """The question for the sums of ``chunks``."""
        sizes = [[len(group) for group in chunk.groups] for chunk in chunks]
        return Pass(
            training=self._training,
            process=process,
            number=number,
            chunks=sizes,
            released=self.states.released,
        )

    def run_securely(self, leaves: list[np.ndarray], chunks: Mapping[str, list[Chunk]]) -> None:
        """Gives ``chunks`` their sums: the first one of a site that is in the sum has all of it, the others nothing.

        Args:
          leaves: Of the message to clients.
          chunks: By site.

        Raises:
          PipelineError: As of `SecureSums.total`.
        """
        if self.secure is None:
            raise PipelineError("this training has no secure sums")
        number = int(leaves[-1])  # the last leaf of a message is the round
        summed = self.secure.recorded(number, leaves)
        if summed is None:
            self._welcome(chunks, number - 1)  # a round that was begun before may have files that count
            if number <= self.secure.released:
                say(f"round {number} is run again, and its sum was removed: the sites join secure sums of a new name")
                self.secure.renew()
                self.members.let_join(self.members.present)
                self.members.get_ready()
            parts = {site: self._part(own) for site, own in chunks.items() if site not in self.members.lost}
            summed = self.secure.total(number, leaves, parts, self._steps)
        self._returned |= set(chunks) - set(summed.sites) - self.members.lost
        clients = sum(len(group) for site in summed.sites for chunk in chunks[site] for group in chunk.groups)
        for place, site in enumerate(summed.sites):
            for chunk in chunks[site]:
                chunk.sums = []
            if not place:
                chunks[site][0].sums = self.secure.weighed(summed.leaves, clients)

    def _steps(
        self, questions: dict[str, bytes], again: Callable[[str], bytes]
    ) -> Iterator[tuple[str, list[np.ndarray]]]:
        """As `Ask` of secure_sums.py."""
        yield from self.members.answers(
            {site: questions[site] for site in questions if site not in self.members.lost}, again
        )

    def _part(self, chunks: list[Chunk]) -> Part:
        question = self.question("training", 0, chunks)
        secure = Secure(training=question.training, chunks=question.chunks, released=question.released)
        return Part(secure, [np.concatenate(chunk.groups) for chunk in chunks])

    def _welcome(self, wanted: Collection[str], up_to: int = LAST_ROUND) -> None:
        """Lets lost sites that are connected again take part, those of ``wanted``.

        They first remove what their clients kept in rounds of which nobody knows.
        """
        back = self.members.take_back(wanted)
        self._returned |= set(back)
        if back and self.secure is not None:
            self.members.let_join(back)  # they may know the secure sums by a former name
        if due := sorted(self._returned & set(wanted) - self.members.lost):
            self.states.clean(due, up_to)
            self._returned -= set(due) - self.members.lost

    def _kept_digests(
        self, last: np.ndarray, sites: Collection[str] | None = None, *, removes: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `Digests` of kept_at_sites.py; lost sites are not asked."""
        question = Kept(training=self._training, removes=removes)
        questions = {
            name: pack(question, [last[clients.start : clients.stop]])
            for name, (_, clients) in self.members.ranges.items()
            if name not in self.members.lost and (sites is None or name in sites)
        }
        digests, answered = np.zeros((len(last), 32), np.uint8), np.zeros(len(last), bool)
        for site, arrays in self.members.answers(questions):
            clients = self.members.ranges[site][1]
            if len(arrays) != 1 or arrays[0].dtype != np.uint8 or arrays[0].shape != (32,):
                raise PipelineError(f"{site}: its digest is not uint8 [32]")
            digests[clients.start], answered[clients.start] = arrays[0], True
        return digests, answered
