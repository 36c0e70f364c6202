"""The batches that wait for a person's decision."""

from operations.incoming.folders import HELD, reasons


def held() -> dict[str, str]:
    """The batches on hold in data/held/, by name, each with the reason."""
    return reasons(HELD)
