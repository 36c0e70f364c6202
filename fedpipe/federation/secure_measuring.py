"""The coordinator of a secure sum of figures: it learns how a model does on all sites' held-out samples together."""

import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import AGGREGATORS
from fedpipe.datasets.shards import Manifest
from fedpipe.errors import PipelineError, SitesLostError
from fedpipe.evaluation.held_out import Sums
from fedpipe.federation.answers import Link, read_answer, shown
from fedpipe.federation.held_out_sums import HeldOutSums
from fedpipe.federation.messages import Answer, SecureMeasure, pack
from fedpipe.federation.pinned_roster import PinnedRoster
from fedpipe.federation.secure_figures import figures_digest, shared_figures
from fedpipe.networks.network import Network, Weights
from fedpipe.params import load
from fedpipe.secure_aggregation.coordinator import Coordinator, Phase
from fedpipe.secure_aggregation.coordinator_messages import Begin
from fedpipe.secure_aggregation.refusal import Refused


def roster_of(params: Path, roster: Path) -> PinnedRoster | None:
    """The roster of the sites, if the training of params.yaml has secure sums, in which figures leave sites, too.

    Raises:
      PipelineError: It has, and there is no roster.
    """
    sums_securely = AGGREGATORS.of(load(Train, params).aggregator).SUMS_INTEGERS
    return PinnedRoster.read(roster) if sums_securely else None


class SecureMeasuring:
    """A model that sites measure together."""

    def __init__(
        self, link: Link, roster: PinnedRoster, manifest: Manifest, model: Network, weights: Weights, batch_size: int
    ) -> None:
        """Asks nobody yet.

        Args:
          link: Reaches the sites.
          roster: The coordinator's copy.
          manifest: Of the clients.
          model: The model.
          weights: Its weights.
          batch_size: Samples per forward pass.
        """
        self._link, self._roster, self._weights = link, roster, weights
        run, spec = secrets.token_hex(32), model.spec.to_json()
        self._questions = {
            site.name: SecureMeasure(
                spec=spec,
                batch_size=batch_size,
                digest=site.digest,
                run=run,
                roster=roster.digest,
                sites=len(manifest.sites or ()),
            )
            for site in manifest.sites or ()
        }
        self.because: dict[str, str] = {}  # why a site has no part

    def total(self, lost: Callable[[SitesLostError], None]) -> Sums | None:
        """The sums over the sites that take part; None if these are too few, or a secure sum refuses.

        Args:
          lost: As of `Link.ask`.

        Raises:
          PipelineError: An answer is none.
        """
        first = next(iter(self._questions.values()))
        setting = self._roster.setting(first.run, shared_figures(first), HeldOutSums)
        begin = Begin.of(setting, 1, 0, figures_digest(first, self._weights))
        # A coordinator that was killed begins anew: sites measure a model again in the same set of sites.
        with tempfile.TemporaryDirectory(prefix="fedpipe-figures-") as folder:
            coordinator = Coordinator(setting, begin, Path(folder) / "journal")
            try:
                while coordinator.phase is not Phase.DONE:
                    self._take_phase(coordinator, lost)
                return HeldOutSums.of(coordinator.result(), len(coordinator.survivors))
            except Refused as error:
                at_fault = "" if error.site is None else f"{self._roster.name(error.site)}: "
                reason = f"there is no secure sum of figures ({at_fault}{error})"
                self.because = dict.fromkeys(self._questions, reason) | self.because
                return None

    def _take_phase(self, coordinator: Coordinator, lost: Callable[[SitesLostError], None]) -> None:
        """Brings a phase's steps to the sites that still take part, and their answers back."""

        def lose(error: SitesLostError) -> None:
            lost(error)
            self.because |= dict.fromkeys(error.sites, "it is lost")

        named = {self._roster.name(number): step for number, step in coordinator.requests().items()}
        steps = {name: step for name, step in named.items() if name not in self.because}
        is_whole = coordinator.phase is Phase.KEYS
        for _ in range(2):  # a site that was started anew gets the model again
            questions = {name: self._packed(name, step, is_whole) for name, step in steps.items()}
            arrays = self._answers(questions, lose)
            for name in steps.keys() & arrays.keys():
                coordinator.receive(self._roster.number(name), arrays[name].tobytes())
            steps = {name: step for name, step in steps.items() if name not in arrays and name not in self.because}
            is_whole = True
            if not steps:
                break
        coordinator.close()

    def _packed(self, name: str, step: bytes, is_whole: bool) -> bytes:
        weights: Sequence[np.ndarray] = self._weights if is_whole else ()
        return pack(self._questions[name], [np.frombuffer(step, np.uint8), *weights])

    def _answers(self, questions: Mapping[str, bytes], lose: Callable[[SitesLostError], None]) -> dict[str, np.ndarray]:
        """The steps of the sites that know the model; why others take no part is noted."""
        steps = {}
        for name, content in self._link.ask(questions, lose):
            answer = read_answer(name, content, Answer)
            if answer.message.refused:
                self.because[name] = shown("; ".join(answer.message.refused))
            elif not answer.message.unknown:
                if len(answer.arrays) != 1 or answer.arrays[0].dtype != np.uint8 or answer.arrays[0].ndim != 1:
                    raise PipelineError(f"{name}: its answer to a step of a secure sum is not one array, uint8 [n]")
                steps[name] = answer.arrays[0]
        return steps
