"""Who takes part in a round: a function of (seed, round), so that a resumed run asks the same clients."""

from fedpipe.config import Train
from fedpipe.errors import PipelineError
from fedpipe.seeds import Purpose, generator


def check(settings: Train, clients: int) -> None:
    """Raises PipelineError if a round asks for more clients than there are shards."""
    if settings.clients_per_round != "all" and settings.clients_per_round > clients:
        raise PipelineError(
            f"params.yaml: 'train.clients_per_round' is {settings.clients_per_round}, but there are {clients} clients; "
            f"give a number up to {clients}, or all"
        )


def cohort(settings: Train, clients: int, round_number: int) -> list[int]:
    """The ids of the clients of a round (1, 2, ...), ascending: all, or a seeded draw without replacement."""
    if settings.clients_per_round == "all":
        return list(range(clients))
    rng = generator(settings.seed, Purpose.COHORT, round_number)
    return sorted(rng.choice(clients, settings.clients_per_round, replace=False).tolist())
