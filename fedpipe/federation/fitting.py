"""Which trainings a federation cannot run yet; refused by name before any stage, and again by each site."""

from fedpipe.config.privacy import AUTO
from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import AGGREGATORS, has_secret_noise
from fedpipe.errors import PipelineError


def require_fitting(settings: Train) -> None:
    """Checks section train.

    Raises:
      PipelineError: Sites cannot train with it; the message names the keys.
    """
    if has_secret_noise(settings):
        raise PipelineError(
            "params.yaml: 'train.privacy.noise' is secret, and a secret does not travel to sites: set it to seeded, "
            "which protects nobody, or train without noise"
        )
    is_private = AGGREGATORS.of(settings.aggregator).is_private
    if is_private and settings.params_of("aggregator").noise_multiplier == AUTO:
        raise PipelineError(
            f"params.yaml: 'train.{settings.aggregator}.noise_multiplier' is auto, which sites do not compute: set the "
            "number that a simulation with 'partition.sites' reports"
        )
