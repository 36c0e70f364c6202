"""The rules of section ``partition``: who decides the sizes of the clients, and what does not apply to sites."""

from fedpipe.config.partition import Partition
from fedpipe.contracts.partition import PARTITIONERS

NO_QUANTITY_SKEW = "even"  # what `quantity` must be where the scheme decides the sizes


def validate(settings: Partition) -> None:
    """Raises ValueError if two files decide the sizes, or samples at sites would be changed."""
    scheme = PARTITIONERS.of(settings.scheme)
    if settings.quantity != NO_QUANTITY_SKEW and scheme.decides_sizes(settings.params_of("scheme")):
        raise ValueError(
            f"'scheme: {settings.scheme}' and 'quantity: {settings.quantity}' both decide the sizes of the clients: "
            f"set quantity to {NO_QUANTITY_SKEW}, or {scheme.FOR_GIVEN_SIZES}"
        )
    if scheme.AT_SITES:
        _require_nothing_else(settings)


def _require_nothing_else(settings: Partition) -> None:
    """The coordinator changes nothing of what sites have."""
    features = settings.features
    others = {
        "leave_out": settings.leave_out,
        "validation": settings.validation,
        "client_test": 0 if settings.client_test == "none" else settings.client_test,
        "concept.share": settings.concept.share,
        "features": features.rotation or features.contrast or features.background or features.noise,
        "sites": settings.sites or 0,
    }
    for key, value in others.items():
        if value:
            raise ValueError(
                f"'partition.{key}' is {value}, and with 'partition.scheme' {settings.scheme} each site partitions its "
                "own samples: set it back to what is off"
            )
