"""A site's part in secure sums of figures on held-out samples: hits, samples and loss leave it under masks only."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fedpipe.errors import PipelineError
from fedpipe.evaluation.held_out import Sums
from fedpipe.federation.held_out_sums import HeldOutSums
from fedpipe.federation.messages import SecureMeasure
from fedpipe.federation.secure_site import Party, model_digest, step_of
from fedpipe.secure_aggregation.coordinator_messages import Survivors, largest_request
from fedpipe.secure_aggregation.message import kind_of
from fedpipe.secure_aggregation.refusal import Refused
from fedpipe.secure_aggregation.setting import Setting
from fedpipe.secure_aggregation.site import Site

# The question, the model's weights -> the site's figures, within its policy.
Measured = Callable[[SecureMeasure, list[np.ndarray]], Sums]


class SecureFigures:
    """A site in the secure sums of figures."""

    def __init__(self, name: str, party: Party | None, least_sites: int, journal: Path, measured: Measured) -> None:
        """Opens nothing yet.

        Args:
          name: Of the site.
          party: Its identity and roster; None if it has none.
          least_sites: In a sum, as its policy says.
          journal: The folder of the identity's journal for figures.
          measured: Measures a model.
        """
        self._name, self._party, self._least_sites = name, party, least_sites
        self._journal, self._measured = journal, measured
        self._site: Site | None = None
        self._setting: Setting | None = None
        self._model = b""  # the digest of the measured model
        self._sums: Sums | None = None

    def close(self) -> None:
        """Frees the journal."""
        if self._site is not None:
            self._site.close()
        self._site = self._setting = self._sums = None

    def answer(self, question: SecureMeasure, arrays: list[np.ndarray]) -> bytes | None:
        """The answer to a step; None if the model that belongs to it is not here.

        Raises:
          Refused: The protocol does not continue with this step.
          PipelineError: The site has no roster, or another one; or tells no figures of this model.
        """
        party = self._party
        if party is None:
            raise PipelineError("it has no roster of sites, which figures in a secure sum need")
        if reasons := party.refused(self._name, question.sites, question.roster):
            raise PipelineError(reasons[0])
        setting = party.roster.setting(question.run, shared_figures(question), HeldOutSums)
        if self._site is None or self._setting != setting:
            self.close()
            self._site, self._setting = Site(party.identity, setting, self._journal), setting
        step = step_of(arrays, largest_request(setting))
        if len(arrays) > 1:
            self._sums = self._measured(question, arrays[1:])
            self._model = figures_digest(question, arrays[1:])
        if self._sums is None:
            return None
        if kind_of(step) == Survivors.KIND and len(Survivors.decode(step).sites) < self._least_sites:
            raise Refused(f"its policy wants {self._least_sites} sites in a sum at least")
        sums = self._sums
        return self._site.answer(step, self._model, lambda: HeldOutSums.vector(sums))


def shared_figures(question: SecureMeasure) -> bytes:
    """A digest, 32 bytes, of what all sites of a sum of figures must be asked alike."""
    alike = question.model_dump(mode="json", include={"spec", "batch_size", "sites"})
    return hashlib.sha256(json.dumps(alike, sort_keys=True).encode()).digest()


def figures_digest(question: SecureMeasure, weights: Sequence[np.ndarray]) -> bytes:
    """The digest, 32 bytes, of a model that is measured; no model that is trained has it."""
    return hashlib.sha256(b"fedpipe figures" + shared_figures(question) + model_digest(weights)).digest()
