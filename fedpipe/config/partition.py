"""Section ``partition``: how the training images become clients' shards.

Two keys name files, and each file has a section of its name for its own params: ``scheme`` names one of
fedpipe/partitioners (which samples a client gets), ``quantity`` one of fedpipe/quantities (how many).
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from fedpipe.config.choices import ChoosingSection
from fedpipe.config.section import Count, Positive, Section, Seed, Size
from fedpipe.contracts.partition import PARTITIONERS, QUANTITIES
from fedpipe.contracts.registry import Registry

NO_QUANTITY_SKEW = "even"  # what `quantity` must be where the scheme decides the sizes

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

    CHOICES: ClassVar[dict[str, Registry[Any]]] = {"scheme": PARTITIONERS, "quantity": QUANTITIES}

    scheme: Annotated[str, AfterValidator(PARTITIONERS.require)]
    quantity: Annotated[str, AfterValidator(QUANTITIES.require)]
    clients: Count
    leave_out: Size
    validation: Size = 0
    seed: Seed
    features: Features
    concept: Concept
    client_test: Literal["none", "same_distribution", "fraction"]
    client_test_fraction: Positive

    @property
    def scheme_decides_sizes(self) -> bool:
        """Whether the scheme, with its params, decides how many samples a client gets."""
        return PARTITIONERS.of(self.scheme).decides_sizes(self.params_of("scheme"))

    @model_validator(mode="before")
    @classmethod
    def _two_keys(cls, content: Any) -> Any:
        """Before there was ``quantity``, the scheme named either, and the section ``quantity`` held the rest."""
        if not isinstance(content, dict):
            return content
        scheme, quantity = content.get("scheme"), content.get("quantity")
        if scheme in QUANTITIES.names and scheme not in PARTITIONERS.names:
            old = quantity if isinstance(quantity, dict) else {}
            labels = old.get("labels", "iid")
            raise ValueError(
                f"scheme {scheme} says how many samples a client gets, which is a key of its own now: write 'scheme: "
                f"{labels}' and 'quantity: {scheme}', with 'min_size: {old.get('min_size', 1)}' in the section "
                f"'{scheme}'" + (" and 'keep_sizes: true' in the section 'pathological'" * (labels == "pathological"))
            )
        if isinstance(quantity, dict):
            raise ValueError(
                f"'partition.quantity' is not a section any more but names one of {', '.join(QUANTITIES.names)}: "
                f"write 'quantity: {NO_QUANTITY_SKEW}'"
            )
        return content

    @model_validator(mode="after")
    def _one_decides_the_sizes(self) -> "Partition":
        if self.quantity != NO_QUANTITY_SKEW and self.scheme_decides_sizes:
            raise ValueError(
                f"'scheme: {self.scheme}' and 'quantity: {self.quantity}' both decide the sizes of the clients: "
                f"set quantity to {NO_QUANTITY_SKEW}, or {PARTITIONERS.of(self.scheme).FOR_GIVEN_SIZES}"
            )
        return self

    @model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> "Partition":
        if self.client_test == "fraction" and self.client_test_fraction >= 1:
            raise ValueError(
                f"with client_test fraction, client_test_fraction must be below 1, not {self.client_test_fraction}"
            )
        return self
