"""Sites that are lost in a round: the server gets nothing of their clients, whose kept state stays as it was.

A federation loses sites while it trains (fedpipe/federation); ``train.dropouts`` repeats such losses, in a simulation
with the same sites or in a federation. A site may be lost between the passes of a round; then it is in the sums of the
passes before.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fedpipe.config.train import Dropout, Train
from fedpipe.contracts.algorithm import asynchrony_of
from fedpipe.contracts.cohort import COHORTS
from fedpipe.datasets.shards import Manifest
from fedpipe.errors import PipelineError
from fedpipe.learning.attackers import attackers
from fedpipe.learning.work_request import WorkRequest
from fedpipe.runtime.cohort import Cohort


class SiteDropouts:
    """The dropouts of params, and how the requests of a round follow from them."""

    def __init__(self, settings: Train, manifest: Manifest, passes: int) -> None:
        """Checks the list.

        Args:
          settings: Section train of params.yaml.
          manifest: Of the clients, with their sites.
          passes: How many a round has.

        Raises:
          PipelineError: The list names a site or a pass that there is not, or sites cannot be lost in this training.
        """
        self._settings, self._passes, self._site_of = settings, passes, manifest.site_of
        if not settings.dropouts:
            return
        require_bearable(settings, "params.yaml: 'train.dropouts'")
        if manifest.sites is None:
            raise PipelineError(
                "params.yaml: 'train.dropouts' lists sites, and the clients have none: set 'partition.sites'"
            )
        for dropout in settings.dropouts:
            if dropout.site > len(manifest.sites):
                raise PipelineError(
                    f"params.yaml: 'train.dropouts' lists site {dropout.site}, and there are {len(manifest.sites)}"
                )
            if dropout.from_pass > passes:
                raise PipelineError(
                    f"params.yaml: 'train.dropouts' lists pass {dropout.from_pass}, and a round of "
                    f"{settings.algorithm} has {passes}"
                )

    def lost_from(self, round_number: int, clients: np.ndarray) -> np.ndarray:
        """The pass from which on each of ``clients`` is lost by params, int32 [n], as `Engine.run_round` takes it."""
        first = np.full(len(clients), self._passes, np.int32)
        if self._site_of is not None:
            for dropout in self._settings.dropouts:
                if dropout.round == round_number:
                    first[self._site_of[clients] == dropout.site - 1] = dropout.from_pass - 1
        return first

    def present(self, round_number: int, selected: Cohort) -> np.ndarray:
        """The clients of a cohort whose sites are not lost by params before the first pass: ids, int32 [n]."""
        return selected.clients[self.lost_from(round_number, selected.clients) > 0]

    def after(self, round_number: int, selected: Cohort, lost_from: np.ndarray) -> tuple[Cohort, list[Dropout]]:
        """The rest of a cohort, and the dropouts of the round.

        Args:
          round_number: 1 for the first.
          selected: The cohort.
          lost_from: int32 [cohort], `Engine.lost_from` after the round.
        """
        is_lost = lost_from < self._passes
        if not is_lost.any() or self._site_of is None:
            return selected, []
        sites = self._site_of[selected.clients]
        dropouts = [
            Dropout(round=round_number, site=int(site) + 1, from_pass=int(lost_from[sites == site].min()) + 1)
            for site in np.unique(sites[is_lost])
        ]
        requests = WorkRequest(*(column[~is_lost] for column in selected.requests))
        counts = dict(selected.counts)
        if "attackers" in counts:
            counts["attackers"] = int(attackers(self._settings, len(self._site_of))[requests.id].sum())
        return replace(selected, requests=requests, counts=counts), dropouts


def require_bearable(settings: Train, what: str) -> None:
    """Checks that a training tolerates the loss of a site; ``what`` requires it.

    Raises:
      PipelineError: It does not.
    """
    if asynchrony_of(settings) is not None:
        raise PipelineError(
            f"{what} lets a site drop out of a round, and with 'train.algorithm' {settings.algorithm} its clients may "
            "have begun updates that arrive in later rounds: choose another algorithm"
        )
    if COHORTS.of(settings.cohort).needs_losses:
        raise PipelineError(
            f"{what} lets a site drop out of a round, and 'train.cohort' {settings.cohort} needs the losses of all "
            "sites' clients before: choose another cohort"
        )


def listed(dropouts: Sequence[Dropout]) -> list[dict[str, int]]:
    """Dropouts as metrics/training.json has them, and as ``train.dropouts`` takes them."""
    return [dropout.model_dump(exclude_defaults=True) for dropout in dropouts]
