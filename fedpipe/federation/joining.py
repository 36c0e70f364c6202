"""Whether a site takes part in a training: its policy, its code and libraries, its roster and its data decide."""

from collections.abc import Callable

from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import AGGREGATORS
from fedpipe.datasets.shards import verify_shards
from fedpipe.errors import PipelineError
from fedpipe.federation.audit import AnsweredRounds
from fedpipe.federation.fitting import require_fitting
from fedpipe.federation.messages import VERSION, Join
from fedpipe.federation.policy import Policy
from fedpipe.federation.secure_site import Party
from fedpipe.federation.site_folder import SiteFolder
from fedpipe.federation.site_key import SiteKey
from fedpipe.params import parse
from fedpipe.runtime.facts import FEDERATION, code, differences, facts
from fedpipe.samples.agreement import differences as differences_of_samples
from fedpipe.samples.kind import Kind


class Joining:
    """Checks questions to take part."""

    def __init__(
        self,
        name: str,
        folder: SiteFolder,
        policy: Policy,
        checkout: Callable[[], tuple[str, bool]],
        party: Party | None,
        key: SiteKey,
        rounds: AnsweredRounds,
    ) -> None:
        """Arguments as of `Site`; ``key``: of digests; ``rounds``: those that the site has answered."""
        self._name, self._folder, self._policy, self._checkout = name, folder, policy, checkout
        self._party, self._key, self._rounds = party, key, rounds
        self._code_at_start = code()
        self._verified = ""  # the digest of the shards that were verified last

    def refused(self, join: Join) -> list[str]:
        """Why the site does not take part, one sentence each.

        Raises:
          PipelineError: The settings cannot be read, sites cannot train with them, or the shards are damaged.
        """
        if join.version != VERSION:
            return [f"it speaks version {VERSION} of the messages, and the coordinator {join.version}"]
        if join.site != self._name:
            return [f"it is {self._name}, and was asked as {join.site}"]
        wrong = self._policy.refused_choices(join.settings)
        if wrong:
            return wrong
        settings = parse(Train, join.settings)
        require_fitting(settings)
        wrong = [f"another {difference}" for difference in differences(join.facts, facts(settings, FEDERATION))]
        if code() != self._code_at_start:
            wrong.append("its code has changed since it was started (start it again)")
        wrong += self._policy.refused_checkout(*self._checkout())
        wrong += self._policy.refused_settings(settings, join.sites, self._rounds.count(but=join.training))
        return wrong + self._wrong_party(settings, join) + self.wrong_data(join)

    def wrong_data(self, join: Join) -> list[str]:
        """The faults of the shards here for a training.

        Raises:
          PipelineError: They are damaged.
        """
        here = self._folder.manifest()
        digest = self._key.digest_of(here)
        if digest != join.digest:
            known = f"{digest[:12]}, not {join.digest[:12]}"
            return [f"its shards are others than the coordinator knows ({known}): partition again there"]
        agreed = Kind(tuple(join.image_shape), join.classes, join.samples)
        if wrong := differences_of_samples(agreed, here.kind):
            return [f"it has other samples than the training: {'; '.join(wrong)}"]
        if join.first + here.clients > join.clients:
            return [f"its {here.clients} clients from {join.first} on are more than the {join.clients} of the training"]
        if self._verified != here.digest:
            try:
                verify_shards(self._folder.shards, here)
            except PipelineError as error:
                raise PipelineError("its shards are damaged (its audit log says which)") from error
            self._verified = here.digest
        return []

    def _wrong_party(self, settings: Train, join: Join) -> list[str]:
        """Why the site does not take part in a training's secure sums, if it has them."""
        if not AGGREGATORS.of(settings.aggregator).SUMS_INTEGERS:
            return []
        if self._party is None:
            return [f"it has no roster of sites, which 'train.aggregator' {settings.aggregator} needs: see its log"]
        if join.run is None or join.roster is None:
            return [f"'train.aggregator' {settings.aggregator} needs a coordinator with a roster of sites"]
        return self._party.refused(self._name, join.sites, join.roster)
