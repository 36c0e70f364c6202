"""The sites of a federation as the place where chunks are computed: `Elsewhere` of fedpipe/runtime/chunks.py.

A site gets one question per pass, with the message and the requests to its clients, and answers with one sum per chunk.
An answer depends on the request alone, so a request is repeated when a site was lost with it.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from fedpipe.config.choices import used
from fedpipe.config.train import Train
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.datasets.shards import Manifest
from fedpipe.errors import PipelineError, SitesLostError, WorkersLostError
from fedpipe.federation.answers import Link, read_answer, shown
from fedpipe.federation.fitting import require_counts, require_fitting, require_quorum, require_roster
from fedpipe.federation.kept_at_sites import LAST_ROUND, StatesAtSites
from fedpipe.federation.messages import (
    Answer,
    Join,
    Kept,
    Parcel,
    Pass,
    Personal,
    Ready,
    Secure,
    pack,
    shared_digest,
)
from fedpipe.federation.secure_sums import AttemptOverError, Part, SecureSums
from fedpipe.federation.site_passes import ALL_CHUNKS, Chunk, SitePasses
from fedpipe.learning.fixed_point import FixedPoint
from fedpipe.runtime.facts import FEDERATION, facts
from fedpipe.runtime.progress import say
from fedpipe.samples.agreement import shared

_RETURNS = 20  # of one site with the same question; then it is taken to be the question's fault


class SiteRefusedError(WorkersLostError):
    """A site does not answer; the training can resume from a checkpoint once its people have agreed to that."""


class Federation:
    """The sites of one training."""

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
        self._weights: dict[str, float] = {}
        self._link, self._manifest, self._settings, self._training = link, manifest, settings, training
        self._ranges = {site.name: (site, clients) for site, clients in manifest.ranges()}
        self._names = [site.name for site in manifest.sites]
        require_roster(settings, self._names, secure)
        self.secure = secure
        saved = secure.release if secure is not None else lambda number: None
        owners = np.repeat(np.arange(len(self._names)), [site.clients for site in manifest.sites])
        self.states = StatesAtSites(self._kept_digests, owners, saved)
        require_quorum(settings, len(self._names), quorum)
        self._quorum = quorum
        self._lost: set[str] = set()  # until they are connected again
        self._returned: set[str] = set()  # whose clients may have files of rounds in which they were lost
        self._training_passes = SitePasses(self, "training")

    def join(self) -> None:
        """Has all sites check the training and build their graphs.

        Raises:
          PipelineError: A site does not take part; the message has what each of them says.
        """
        self._let_join(self._names)
        names = self._present()
        if self._wants_weights and self._lost:
            raise WorkersLostError(f"{', '.join(sorted(self._lost))}: the sum of its clients' weights is missing")
        say(f"{len(names)} sites take part: {', '.join(names)}")

    @property
    def all_weights(self) -> float | None:
        """The sum of the weights of all clients, as sites tell it; None where exact numbers of samples say it.

        NaN where no site was asked, since the algorithm does not say that it reads it.
        """
        if self._manifest.counts_are_exact:
            return None
        return sum(self._weights.values()) if self._wants_weights else math.nan

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
            self.secure.begin(fixed_point, shared_digest(self._join(self._names[0])))
        self._get_ready()

    def begin_round(self, number: int) -> None:
        """Names the round in lines about sites."""
        self._link.about = f"round {number}"

    def make_personal(self, state: list[np.ndarray], last: np.ndarray) -> bool:
        """Each site makes and keeps those of its own clients."""
        question = Personal(training=self._training)
        questions = {
            name: pack(question, [*state, last[clients.start : clients.stop]])
            for name, (_, clients) in self._ranges.items()
        }
        missing = set(questions) - {site for site, _ in self._answers(questions)}
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
        return next(name for name, (_, clients) in self._ranges.items() if client in clients)

    def run(self, requests: Mapping[str, tuple[Pass, Sequence[np.ndarray]]]) -> Iterator[tuple[str, list[np.ndarray]]]:
        """Asks sites for sums, and yields their leaves; sites that are lost have none.

        Raises:
          PipelineError: An answer is none.
          WorkersLostError: A site refuses, or is lost where that must not be.
        """
        self._welcome(requests)
        yield from self._answers({site: pack(*requests[site]) for site in requests if site not in self._lost})

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
                self._let_join(self._present())
                self._get_ready()
            parts = {site: self._part(own) for site, own in chunks.items() if site not in self._lost}
            summed = self.secure.total(number, leaves, parts, self._steps)
        self._returned |= set(chunks) - set(summed.sites) - self._lost
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
        yield from self._answers({site: questions[site] for site in questions if site not in self._lost}, again)

    def _part(self, chunks: list[Chunk]) -> Part:
        question = self.question("training", 0, chunks)
        secure = Secure(training=question.training, chunks=question.chunks, released=question.released)
        return Part(secure, [np.concatenate(chunk.groups) for chunk in chunks])

    def _present(self) -> list[str]:
        """The sites that are not lost."""
        return [name for name in self._names if name not in self._lost]

    def _welcome(self, wanted: Collection[str], up_to: int = LAST_ROUND) -> None:
        """Lets lost sites that are connected again take part, those of ``wanted``.

        They first remove what their clients kept in rounds of which nobody knows.
        """
        back = sorted(self._lost & set(wanted) & set(self._link.connected()))
        if back:
            say(f"{', '.join(back)}: back")
        self._lost -= set(back)
        self._returned |= set(back)
        if back and self.secure is not None:
            self._let_join(back)  # they may know the secure sums by a former name
        if due := sorted(self._returned & set(wanted) - self._lost):
            self.states.clean(due, up_to)
            self._returned -= set(due) - self._lost

    def _lose(self, error: SitesLostError) -> None:
        """Continues without sites, if enough are left.

        Raises:
          WorkersLostError: They are not.
        """
        if self._quorum is None:
            raise SitesLostError(f"{error}: start it again, then this training", error.sites)
        self._lost |= set(error.sites)
        left = self._present()
        if len(left) < self._quorum:
            raise WorkersLostError(
                f"{error}: {len(left)} of {len(self._names)} sites are left, and 'quorum' of federation.yaml is "
                f"{self._quorum}"
            )
        about = f"{self._link.about}: " if self._link.about else ""
        say(f"{about}{error}; continues with {', '.join(left)}")

    def _get_ready(self) -> None:
        """Waits until the sites that are not lost have built the training."""
        list(self._answers(dict.fromkeys(self._present(), pack(Ready(training=self._training)))))

    def _let_join(self, names: Collection[str]) -> None:
        questions = {name: pack(self._join(name)) for name in names}
        for name, answer in self._ask(questions):
            if self._wants_weights:
                self._weights[name] = _weight(name, answer.arrays)

    def _join(self, name: str) -> Join:
        """The question that asks a site to take part."""
        settings = used(self._settings)
        del settings["dropouts"]  # a site takes part, or is not asked
        return Join(
            site=name,
            sites=len(self._names),
            training=self._training,
            settings=settings,
            facts=facts(self._settings, FEDERATION),
            image_shape=list(self._manifest.image_shape),
            classes=self._manifest.classes,
            samples=shared(self._manifest.format),
            clients=self._manifest.clients,
            first=self._ranges[name][1].start,
            digest=self._ranges[name][0].digest,
            wants_weights=self._wants_weights,
            run=None if self.secure is None else self.secure.run,
            roster=None if self.secure is None else self.secure.roster.digest,
        )

    def _answers(
        self, questions: dict[str, bytes], again: Callable[[str], bytes] | None = None
    ) -> Iterator[tuple[str, list[np.ndarray]]]:
        """The arrays of sites that take part; a site that was started anew joins again and is asked again.

        ``again`` has the question for a site that is asked again; by default it is the same.
        """
        for _ in range(_RETURNS):
            back = []
            for site, answer in self._ask(questions):
                if answer.message.unknown:
                    back.append(site)
                else:
                    yield site, answer.arrays
            if not back:
                return
            say(f"{', '.join(back)}: started anew, joins again")
            self._let_join(back)
            here = [site for site in back if site not in self._lost]
            if not here:
                return
            questions = {site: questions[site] if again is None else again(site) for site in here}
        raise PipelineError(
            f"{', '.join(questions)}: started anew {_RETURNS} times with a question (see the site's log)"
        )

    def _ask(self, questions: Mapping[str, bytes]) -> Iterator[tuple[str, Parcel]]:
        """The answers, none of which refuses; a site whose bytes are none is lost, where that may be."""
        refused, is_over = [], False
        for site, content in self._link.ask(questions, self._lose):
            try:
                answer = read_answer(site, content, Answer)
            except PipelineError as error:
                if self._quorum is None:
                    raise
                self._lose(SitesLostError(str(error), [site]))
                continue
            if answer.message.refused:
                refused += [f"{site}: {shown(reason)}" for reason in answer.message.refused]
                is_over = is_over or answer.message.is_over
            elif not refused:
                yield site, answer
        if refused:
            kind = AttemptOverError if is_over else SiteRefusedError
            raise kind(f"not all sites answer. {'; '.join(sorted(refused))}")

    def _kept_digests(
        self, last: np.ndarray, sites: Collection[str] | None = None, *, removes: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `Digests` of kept_at_sites.py; lost sites are not asked."""
        question = Kept(training=self._training, removes=removes)
        questions = {
            name: pack(question, [last[clients.start : clients.stop]])
            for name, (_, clients) in self._ranges.items()
            if name not in self._lost and (sites is None or name in sites)
        }
        digests, answered = np.zeros((len(last), 32), np.uint8), np.zeros(len(last), bool)
        for site, arrays in self._answers(questions):
            clients = self._ranges[site][1]
            if len(arrays) != 1 or arrays[0].dtype != np.uint8 or arrays[0].shape != (32,):
                raise PipelineError(f"{site}: its digest is not uint8 [32]")
            digests[clients.start], answered[clients.start] = arrays[0], True
        return digests, answered


def _weight(site: str, arrays: Sequence[np.ndarray]) -> float:
    """The sum of the weights of a site's clients.

    Raises:
      PipelineError: The site sent none.
    """
    if len(arrays) != 1 or arrays[0].dtype != np.float64 or arrays[0].shape != (1,) or not 0 <= arrays[0][0] < 2**53:
        raise PipelineError(f"{site}: the sum of its clients' weights is not one number, float64 [1]")
    return float(arrays[0][0])
