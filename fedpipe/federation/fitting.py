"""Which trainings a federation cannot run; refused by name before round 1, and again by each site."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from fedpipe.compatibility.privacy import seeded_noise_at_sites
from fedpipe.config.privacy import AUTO
from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import AGGREGATORS, has_noise_at_clients, has_noise_at_sites, has_secret_noise
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.contracts.cohort import COHORTS
from fedpipe.datasets.shards import Site, SiteShards
from fedpipe.errors import PipelineError
from fedpipe.params import load
from fedpipe.runtime.dropouts import require_bearable

if TYPE_CHECKING:
    from fedpipe.federation.secure_sums import SecureSums


def require_fitting(settings: Train) -> None:
    """Checks section train.

    Raises:
      PipelineError: Sites cannot train with it; the message names the keys.
    """
    if has_noise_at_clients(settings) and not has_secret_noise(settings):
        raise PipelineError(f"params.yaml: {seeded_noise_at_sites(settings)}")
    if has_secret_noise(settings) and not has_noise_at_sites(settings) and not has_noise_at_clients(settings):
        raise PipelineError(
            "params.yaml: 'train.privacy.noise' is secret, and a secret does not travel to sites: set it to seeded, "
            "which protects nobody, or choose 'train.aggregator' local_dp, whose noise sites draw with keys of their "
            "own"
        )
    if ALGORITHMS.of(settings.algorithm).is_baseline:
        raise PipelineError(
            f"params.yaml: 'train.algorithm' {settings.algorithm} is a baseline without a federation: set it to fed_avg"
        )
    if settings.client_weighting == "per_client":
        raise PipelineError(
            "params.yaml: 'train.client_weighting' is per_client, with which a coordinator could single out a client "
            "of a site: set it to examples or uniform"
        )
    if settings.client_rounds:
        raise PipelineError(
            "params.yaml: 'train.client_rounds' is true, and sites send sums over their clients only: set it to false"
        )
    is_private = AGGREGATORS.of(settings.aggregator).is_private
    if is_private and settings.params_of("aggregator").noise_multiplier == AUTO:
        raise PipelineError(
            f"params.yaml: 'train.{settings.aggregator}.noise_multiplier' is auto, which sites do not compute: set the "
            "number that a simulation with 'partition.sites' reports"
        )


def require_counts(settings: Train, sites: Iterable[Site | SiteShards]) -> None:
    """Checks that all sites tell their clients' exact numbers of samples, where a training needs these.

    It needs them where they decide who takes part in a round. Weights, losses and counts come as sums.

    Raises:
      PipelineError: It does, and a site rounds or withholds them; the message names sites and keys.
    """
    vague = [f"{site.name} ({site.counts})" for site in sites if site.counts is not None]
    keys = _reads_sizes(settings)
    if vague and keys:
        raise PipelineError(
            f"params.yaml: {' and '.join(keys)} decide who takes part by the exact number of samples of each client, "
            f"and not all sites tell these: {', '.join(vague)}. Choose a cohort without sizes ('train.cohort' uniform, "
            "poisson or fixed), rounds without a report goal and simulated seconds, or agree with the sites on "
            "'counts: exact' in their policies and partition again"
        )


def require_fitting_params(file: Path, sites: Iterable[Site | SiteShards]) -> None:
    """Checks section train of params.yaml for these sites when they are partitioned, so that no stage has run in vain.

    Raises:
      PipelineError: Sites cannot train with it.
    """
    settings = load(Train, file)
    require_fitting(settings)
    require_counts(settings, sites)


def _reads_sizes(settings: Train) -> list[str]:
    availability = settings.availability
    reads = {
        f"'train.cohort' {settings.cohort}": COHORTS.of(settings.cohort).BY_SIZE,
        f"'train.algorithm' {settings.algorithm}": ALGORITHMS.of(settings.algorithm).is_asynchronous,
        "'train.availability.report_goal'": availability.report_goal is not None,
        "'train.availability.devices.seconds_per_sample'": availability.devices.seconds_per_sample > 0,
    }
    return [key for key, is_read in reads.items() if is_read]


def require_roster(settings: Train, names: Collection[str], secure: "SecureSums | None") -> None:
    """Checks that a training has secure sums if its aggregator needs them, and of its own sites.

    Raises:
      PipelineError: It is not so.
    """
    if (secure is not None) != AGGREGATORS.of(settings.aggregator).SUMS_INTEGERS:
        raise PipelineError(f"'train.aggregator' {settings.aggregator} in a federation needs a roster of its sites")
    if secure is not None and set(names) != set(secure.roster.names):
        raise PipelineError(
            f"the roster has the sites {', '.join(secure.roster.names)}, and 'partition.at_sites.sites' "
            f"{', '.join(sorted(names))}: they must be the same"
        )


def require_quorum(settings: Train, sites: int, quorum: int | None) -> None:
    """Checks the number of sites with which a training continues without the others.

    Raises:
      PipelineError: There are not so many ``sites``, or the training does not tolerate the loss of one.
    """
    if quorum is not None:
        require_bearable(settings, "federation.yaml: 'quorum'")
        if quorum > sites:
            raise PipelineError(f"federation.yaml: 'quorum' is {quorum}, and there are {sites} sites")
