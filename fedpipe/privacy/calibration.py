"""``noise_multiplier: auto``: the least noise with which all rounds together spend at most ``train.privacy.epsilon``.

Epsilon is that of the ledger, by Rényi DP. It is searched by bisection among multipliers of three digits, so that the
last bits of an accountant's sums do not matter.
"""

import bisect

from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import AGGREGATORS
from fedpipe.errors import PipelineError
from fedpipe.privacy.mechanism import Draw

_LEAST, _LARGEST = -2, 4  # powers of ten


def calibrated(settings: Train, clients: int, draw: Draw) -> Train:
    """``settings`` with a number in the place of ``noise_multiplier: auto``.

    Args:
      settings: Section train of params.yaml.
      clients: How many there are.
      draw: The ids of the cohort of a round.

    Raises:
      PipelineError: No noise is enough, or it is more than the aggregator can add; the message names the keys.
    """
    target = settings.privacy.epsilon
    aggregator, delta = AGGREGATORS.of(settings.aggregator), settings.privacy.delta
    if target is None or aggregator.mechanism is None:
        return settings
    mechanism = aggregator.mechanism(_with_multiplier(settings, 1.0), clients)

    def is_enough(index: int) -> bool:
        return mechanism.with_noise(_multiplier(index)).epsilon(settings.rounds, delta, draw) <= target

    candidates = range(900 * (_LARGEST - _LEAST))
    index = bisect.bisect_left(candidates, True, key=is_enough)
    if index == len(candidates):
        raise PipelineError(
            f"params.yaml: no 'train.{settings.aggregator}.noise_multiplier' below {10**_LARGEST:,} keeps epsilon at "
            f"'train.privacy.epsilon' {target} with a delta of {delta}: raise one of the two"
        )
    chosen = _with_multiplier(settings, _multiplier(index))
    try:
        aggregator.check(chosen)
    except ValueError as error:
        raise PipelineError(f"params.yaml: 'train.privacy.epsilon' {target}: {error}") from None
    return chosen


def _multiplier(index: int) -> float:
    """0.0100, 0.0101, ..., 0.0999, 0.100, 0.101, ..."""
    return float(f"{100 + index % 900}e{_LEAST - 2 + index // 900}")


def _with_multiplier(settings: Train, value: float) -> Train:
    name = settings.aggregator
    own = settings.params_of("aggregator").model_copy(update={"noise_multiplier": value})
    return settings.model_copy(update={name: own})
