"""Which rounds a federation can sum securely: those with clients of enough sites, known before the first round."""

from collections.abc import Callable

import numpy as np

from fedpipe.errors import PipelineError

_FEWEST = 3  # summands of a secure sum


def require_enough_sites(
    draw: Callable[[int], np.ndarray], rounds: int, site_of: np.ndarray, fewest: int | None = None
) -> None:
    """Checks all cohorts.

    Args:
      draw: The clients that take part in a round, from 1 on, and are at sites that do not drop out of it.
      rounds: How many there are.
      site_of: int64 [clients], the site of each client.
      fewest: Sites in a secure sum; by default those of a roster of whose sites none colludes.

    Raises:
      PipelineError: A round has clients of too few sites, or of one at least, since an empty round sums nothing.
    """
    sites = int(site_of.max()) + 1
    fewest = fewest or max(sites // 2 + 1, _FEWEST)
    for number in range(1, rounds + 1):
        count = len(np.unique(site_of[draw(number)]))
        if 0 < count < fewest:
            raise PipelineError(
                f"params.yaml: round {number} would have clients of {count} of the {sites} sites, and a secure sum is "
                f"one of {fewest} sites at least: set 'train.clients_per_round' to all or to more clients, "
                "'train.seed' to another number, or fewer 'train.dropouts'"
            )
