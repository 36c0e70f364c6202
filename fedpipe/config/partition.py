"""Section ``partition``: how the training images become clients' shards.

Two keys name files, and each file has a section of its name for its own params: ``scheme`` names one of
fedpipe/partitioners (which samples a client gets), ``quantity`` one of fedpipe/quantities (how many).
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from fedpipe.config.choices import ChoosingSection, chosen_from
from fedpipe.config.folder import Folder
from fedpipe.config.section import Count, Positive, Section, Seed, Size

Share = Annotated[float, Field(ge=0, le=1)]


class Features(Section):
    """Feature skew: how far the look of a client's images may be from the data set's; 0 is off."""

    values: Literal["drawn", "by_client"]
    rotation: Annotated[float, Field(ge=0, le=180)]
    contrast: Share
    background: Share
    noise: Share


class Concept(Section):
    """Concept skew: the share of clients whose labels are permuted."""

    share: Share


class Partition(ChoosingSection):
    """How the training images are split into client shards."""

    CHOICES: ClassVar[dict[str, Folder]] = {
        "scheme": Folder("fedpipe.partitioners"),
        "quantity": Folder("fedpipe.quantities"),
    }

    scheme: chosen_from(CHOICES["scheme"])  # type: ignore[valid-type]
    quantity: chosen_from(CHOICES["quantity"])  # type: ignore[valid-type]
    clients: Count
    leave_out: Size
    validation: Size = 0
    seed: Seed
    features: Features
    concept: Concept
    client_test: Literal["none", "same_distribution", "fraction"]
    client_test_fraction: Positive
    sites: Annotated[list[Count], Field(min_length=2)] | None = None

    @model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> "Partition":
        if self.client_test == "fraction" and self.client_test_fraction >= 1:
            raise ValueError(
                f"with client_test fraction, client_test_fraction must be below 1, not {self.client_test_fraction}"
            )
        return self

    @model_validator(mode="after")
    def _sites_have_all_clients(self) -> "Partition":
        if self.sites is not None and sum(self.sites) != self.clients:
            raise ValueError(
                f"'sites' has {sum(self.sites)} clients in all, and 'clients' is {self.clients}: they must be equal"
            )
        return self
