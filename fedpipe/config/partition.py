"""Section ``partition``: how the training images become clients' shards."""

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from fedpipe.config.schemes import (
    ByColumnScheme,
    DirichletQuantityScheme,
    DirichletScheme,
    DistributionScheme,
    ExponentialScheme,
    InnerDirichletScheme,
    LognormalScheme,
    PathologicalScheme,
    Quantity,
    ShardsScheme,
    SizesScheme,
)
from fedpipe.config.section import Count, Positive, Section, Seed

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


QuantityName = Literal["linear", "square", "exponential", "lognormal", "dirichlet_quantity", "sizes"]
SchemeName = Literal[
    "contiguous",
    "iid",
    "shards",
    "dirichlet",
    "inner_dirichlet",
    "pathological",
    "distribution",
    QuantityName,
    "by_column",
]
SCHEME_NAMES: tuple[str, ...] = get_args(SchemeName)
QUANTITY_NAMES: tuple[str, ...] = get_args(QuantityName)


class Partition(Section):
    """How the training images are split into client shards."""

    scheme: SchemeName
    clients: Count
    leave_out: Annotated[int, Field(ge=0)]
    seed: Seed
    shards: ShardsScheme
    dirichlet: DirichletScheme
    inner_dirichlet: InnerDirichletScheme
    pathological: PathologicalScheme
    distribution: DistributionScheme
    quantity: Quantity
    exponential: ExponentialScheme
    lognormal: LognormalScheme
    dirichlet_quantity: DirichletQuantityScheme
    sizes: SizesScheme
    by_column: ByColumnScheme
    features: Features
    concept: Concept
    client_test: Literal["none", "same_distribution", "fraction"]
    client_test_fraction: Positive

    @model_validator(mode="after")
    def _scheme_has_what_it_needs(self) -> "Partition":
        is_quantity = self.scheme in QUANTITY_NAMES
        label_scheme = self.quantity.labels if is_quantity else self.scheme
        if self.scheme == "by_column" and not self.by_column.table:
            raise ValueError("scheme by_column reads a CSV file: set 'partition.by_column.table' and its 'sha256'")
        if self.scheme == "sizes" and bool(self.sizes.values) == bool(self.sizes.table):
            raise ValueError("scheme sizes needs either 'partition.sizes.values' or 'partition.sizes.table'")
        if label_scheme == "distribution":
            if bool(self.distribution.values) == bool(self.distribution.table):
                raise ValueError(
                    "scheme distribution needs either 'partition.distribution.values' or 'partition.distribution.table'"
                )
            if is_quantity and self.distribution.proportions_of == "labels":
                raise ValueError(
                    f"scheme {self.scheme} and 'partition.distribution.proportions_of: labels' both decide the sizes "
                    "of the clients: take 'proportions_of: clients', or scheme distribution without it"
                )
        return self

    @model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> "Partition":
        if self.client_test == "fraction" and self.client_test_fraction >= 1:
            raise ValueError(
                f"with client_test fraction, client_test_fraction must be below 1, not {self.client_test_fraction}"
            )
        return self
