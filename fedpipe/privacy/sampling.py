"""How a cohort is drawn, as the accountant needs to know it; each file of fedpipe/cohorts that it can use says so."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from fedpipe.config.train import Train
from fedpipe.contracts.cohort import COHORTS


class Sampling(NamedTuple):
    """How clients come into a cohort.

    ``all``: the same ones in every round, every client or those of a list. ``fixed``: ``expected`` of ``clients``,
    drawn without replacement in each round. ``poisson``: each client by itself with the same probability, which makes
    ``expected`` on average.
    """

    kind: Literal["all", "fixed", "poisson"]
    expected: float  # clients that a round asks, if none of them is missing
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
            f"'train.aggregator' {settings.aggregator} needs a cohort that is drawn without a look at clients' data, "
            f"and 'train.cohort' {settings.cohort} does not say that it is: choose one of {known}"
        )
    return sampling


def expected_updates(settings: Train, clients: int) -> float:
    """How many updates a round brings, on average: what sums over a round are divided by.

    It follows from params, not from who took part: the number of updates would tell whether a client was among them.
    With (1 - dropout_before) / cyclic.groups of the clients to ask, `uniform` asks as many as it can of its number.
    """
    availability = settings.availability
    kind, asked, _ = sampling_of(settings, clients)
    present = (1 - availability.dropout_before) / availability.cyclic.groups
    asked = min(asked, clients * present) if kind == "fixed" else asked * present
    return asked * (1 - availability.dropout_during)
