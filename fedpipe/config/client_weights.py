"""The weights of clients that a user gives: ``train.client_weights``."""

from typing import Annotated

from pydantic import Field, StringConstraints

from fedpipe.config.pinned_table import PinnedTable

LARGEST_WEIGHT = 1e9  # of a client: float32 sums of weights times updates stay finite


class ClientWeights(PinnedTable):
    """The weight of each client for ``client_weighting: per_client``.

    ``values``: one number per client, in their order; or ``table``: a CSV file with the columns client and weight.
    """

    values: list[Annotated[float, Field(ge=0, le=LARGEST_WEIGHT)]] = Field(default_factory=list)
    table: str = ""
    sha256: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""

    @property
    def is_empty(self) -> bool:
        """Whether there are no weights."""
        return not self.values and not self.table
