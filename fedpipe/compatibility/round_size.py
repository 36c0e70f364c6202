"""Bounds on a round's clients and updates, and the params that are rejected for them.

It follows from section train and the number of clients. Clients that ``train.availability`` takes away are not counted:
whatever uses these numbers must tolerate smaller rounds.
"""

from fedpipe.config.section import LARGEST_COUNT
from fedpipe.config.train import Train
from fedpipe.contracts.aggregator import AGGREGATORS
from fedpipe.contracts.algorithm import asynchrony_of
from fedpipe.contracts.cohort import COHORTS, Sizes, exactly
from fedpipe.contracts.train import chosen

ASKED = "train.clients_per_round"


def cohort_sizes(settings: Train, clients: int) -> Sizes:
    """How many of ``clients`` the cohort of a round has: what its file says, or else ``train.clients_per_round``."""
    cohort = COHORTS.of(settings.cohort)
    if cohort.sizes is not None:
        return cohort.sizes(settings, clients)
    number = settings.clients_per_round
    return exactly(clients if number == "all" else min(number, clients), ASKED)


def updates(settings: Train, clients: int) -> Sizes:
    """How many updates the server steps with in a round."""
    rules, goal = asynchrony_of(settings), settings.availability.report_goal
    if rules is not None:
        return exactly(rules.buffer_size, f"train.{settings.algorithm}.buffer_size")
    if goal is not None:
        return exactly(goal, "train.availability.report_goal")
    return cohort_sizes(settings, clients)


def validate(settings: Train, clients: int = LARGEST_COUNT) -> None:
    """Checks that rounds are large enough, by default with as many clients as there can be.

    Raises:
      ValueError: Nobody is beyond the report goal, or the aggregator needs more updates.
    """
    name, goal = settings.aggregator, settings.availability.report_goal
    cohort, brings = cohort_sizes(settings, clients), updates(settings, clients)
    if goal is not None and goal >= cohort.largest:
        raise ValueError(
            f"'train.availability.report_goal' is {goal}, and '{cohort.key}' asks {cohort.largest} clients: lower the "
            "goal, or ask more clients, so that a slow one can be left out"
        )
    needed = AGGREGATORS.of(name).smallest_cohort(settings)
    if brings.smallest < needed:
        key = "partition.clients" if brings.key == ASKED and settings.clients_per_round == "all" else brings.key
        lower = f", or lower 'train.{name}.attackers'" if hasattr(settings.params_of("aggregator"), "attackers") else ""
        has = "has" if brings.smallest == brings.most else "may have only"
        raise ValueError(
            f"'train.aggregator' {name} needs {needed} clients in a round, and a round {has} {brings.smallest}: make "
            f"rounds larger with '{key}'{lower}"
        )


def check_clients(settings: Train, clients: int) -> None:
    """Checks what depends on the number of clients, by the ``check_clients`` of chosen files too.

    Raises:
      ValueError: There are too few clients for something, or too many; the message names the keys and the remedy.
    """
    rules = asynchrony_of(settings)
    own = {} if rules is None else {f"{settings.algorithm}.{key}": number for key, number in rules._asdict().items()}
    for key, number in {"clients_per_round": settings.clients_per_round, **own}.items():
        if number != "all" and number > clients:
            raise ValueError(
                f"'train.{key}' is {number}, but there are {clients} clients; give a number up to {clients}"
            )
    for choice in chosen(settings):
        choice.check_clients(settings, clients)
    validate(settings, clients)
