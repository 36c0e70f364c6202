"""The rules of section ``partition``: scheme and quantity do not both decide the sizes of the clients."""

from fedpipe.config.partition import Partition
from fedpipe.contracts.partition import PARTITIONERS

NO_QUANTITY_SKEW = "even"  # what `quantity` must be where the scheme decides the sizes


def check(settings: Partition) -> None:
    """Raises ValueError if two files decide the sizes."""
    scheme = PARTITIONERS.of(settings.scheme)
    if settings.quantity != NO_QUANTITY_SKEW and scheme.decides_sizes(settings.params_of("scheme")):
        raise ValueError(
            f"'scheme: {settings.scheme}' and 'quantity: {settings.quantity}' both decide the sizes of the clients: "
            f"set quantity to {NO_QUANTITY_SKEW}, or {scheme.FOR_GIVEN_SIZES}"
        )
