"""How a cohort is drawn, as the accountant needs to know it; each file of fedpipe/cohorts that it can use says so."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from fedpipe.config.train import Train
from fedpipe.contracts.cohort import COHORTS


class Sampling(NamedTuple):
    """How clients come into a cohort.

    ``all``: every client, in every round. ``fixed``: ``expected`` of ``clients``, drawn without replacement in each
    round. ``poisson``: each client by itself with the same probability, which makes ``expected`` on average.
    """

    kind: Literal["all", "fixed", "poisson"]
    expected: float  # clients in a round
    clients: int  # altogether

    @property
    def probability(self) -> float:
        """That a client is in a round."""
        return self.expected / self.clients


def sampling_of(settings: Train, clients: int) -> Sampling:
    """How the cohorts of a training over ``clients`` are drawn.

    Raises:
      ValueError: The file of the cohort does not say it.
    """
    return require_sampling(settings)(settings, clients)


def require_sampling(settings: Train) -> Callable[[Train, int], Sampling]:
    """The function ``sampling`` of the cohort's file.

    Raises:
      ValueError: It has none.
    """
    sampling = COHORTS.of(settings.cohort).sampling
    if sampling is None:
        known = ", ".join(name for name, cohort in COHORTS.all() if cohort.sampling is not None)
        raise ValueError(
            f"'train.aggregator' {settings.aggregator} needs a cohort whose sampling the privacy accountant knows, and "
            f"'train.cohort' {settings.cohort} is none: choose one of {known}"
        )
    return sampling
