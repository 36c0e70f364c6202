"""The sites of a training: which of them take part, which are lost, and their answers."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np

from fedpipe.config.choices import used
from fedpipe.config.train import Train
from fedpipe.datasets.shards import Manifest
from fedpipe.errors import PipelineError, SitesLostError, WorkersLostError
from fedpipe.federation.answers import Link, read_answer, shown
from fedpipe.federation.messages import Answer, Join, Parcel, Ready, pack
from fedpipe.federation.secure_sums import AttemptOverError, SecureSums
from fedpipe.runtime.facts import FEDERATION, facts
from fedpipe.runtime.progress import say
from fedpipe.samples.agreement import shared

_RETURNS = 20  # of one site with the same question; then it is taken to be the question's fault


class SiteRefusedError(WorkersLostError):
    """A site does not answer; the training can resume from a checkpoint once its people have agreed to that."""


class Members:
    """The sites of one training.

    Attributes:
      names: Of all sites.
      ranges: Each site's shards and the ids of its clients.
      lost: The sites that are lost, until they are connected again.
      quorum: How many sites a training has at least while others are lost; None where none may be lost.
      weights: The sum of the weights of a site's clients, where sites are asked for it.
    """

    def __init__(
        self,
        link: Link,
        manifest: Manifest,
        settings: Train,
        training: str,
        *,
        secure: SecureSums | None,
        quorum: int | None,
        wants_weights: bool,
    ) -> None:
        """Asks no site yet; arguments as of `Federation`, and ``wants_weights`` as of `Join`."""
        self._link, self._manifest, self._settings, self._training = link, manifest, settings, training
        self._secure, self.quorum, self._wants_weights = secure, quorum, wants_weights
        self.ranges = {site.name: (site, clients) for site, clients in manifest.ranges()}
        self.names = list(self.ranges)
        self.lost: set[str] = set()
        self.weights: dict[str, float] = {}

    @property
    def present(self) -> list[str]:
        """The sites that are not lost."""
        return [name for name in self.names if name not in self.lost]

    def take_back(self, wanted: Collection[str]) -> list[str]:
        """Lost sites of ``wanted`` that are connected again, which take part from here on."""
        back = sorted(self.lost & set(wanted) & set(self._link.connected()))
        if back:
            say(f"{', '.join(back)}: back")
        self.lost -= set(back)
        return back

    def get_ready(self) -> None:
        """Waits until the sites that are not lost have built the training."""
        list(self.answers(dict.fromkeys(self.present, pack(Ready(training=self._training)))))

    def let_join(self, names: Collection[str]) -> None:
        """Has sites check the training and build their graphs.

        Raises:
          PipelineError: A site does not take part; the message has what each of them says.
        """
        questions = {name: pack(self.join_question(name)) for name in names}
        for name, answer in self._ask(questions):
            if self._wants_weights:
                self.weights[name] = _weight(name, answer.arrays)

    def join_question(self, name: str) -> Join:
        """The question that asks a site to take part."""
        settings = used(self._settings)
        del settings["dropouts"]  # a site takes part, or is not asked
        return Join(
            site=name,
            sites=len(self.names),
            training=self._training,
            settings=settings,
            facts=facts(self._settings, FEDERATION),
            image_shape=list(self._manifest.image_shape),
            classes=self._manifest.classes,
            samples=shared(self._manifest.format),
            clients=self._manifest.clients,
            first=self.ranges[name][1].start,
            digest=self.ranges[name][0].digest,
            wants_weights=self._wants_weights,
            run=None if self._secure is None else self._secure.run,
            roster=None if self._secure is None else self._secure.roster.digest,
        )

    def answers(
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
            self.let_join(back)
            here = [site for site in back if site not in self.lost]
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
                if self.quorum is None:
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

    def _lose(self, error: SitesLostError) -> None:
        """Continues without sites, if enough are left.

        Raises:
          WorkersLostError: They are not.
        """
        if self.quorum is None:
            raise SitesLostError(f"{error}: start it again, then this training", error.sites)
        self.lost |= set(error.sites)
        left = self.present
        if len(left) < self.quorum:
            raise WorkersLostError(
                f"{error}: {len(left)} of {len(self.names)} sites are left, and 'quorum' of federation.yaml is "
                f"{self.quorum}"
            )
        about = f"{self._link.about}: " if self._link.about else ""
        say(f"{about}{error}; continues with {', '.join(left)}")


def _weight(site: str, arrays: Sequence[np.ndarray]) -> float:
    """The sum of the weights of a site's clients.

    Raises:
      PipelineError: The site sent none.
    """
    if len(arrays) != 1 or arrays[0].dtype != np.float64 or arrays[0].shape != (1,) or not 0 <= arrays[0][0] < 2**53:
        raise PipelineError(f"{site}: the sum of its clients' weights is not one number, float64 [1]")
    return float(arrays[0][0])
