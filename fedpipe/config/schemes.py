"""The sections of params.yaml's ``partition`` that belong to one scheme each (partition.py)."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from fedpipe.config.section import Count, Positive, Section


class ShardsScheme(Section):
    """Scheme ``shards``: how many label-sorted pieces a client gets."""

    shards_per_client: Count


# Below, NumPy's draw does not end: nearly every share underflows to 0.
Concentration = Annotated[float, Field(ge=1e-3, allow_inf_nan=False)]
Size = Annotated[int, Field(ge=0)]


class DirichletScheme(Section):
    """Scheme ``dirichlet``: concentration of the label mix, the smallest shard, and whether full clients get more."""

    alpha: Concentration
    min_size: Size
    self_balancing: bool


class InnerDirichletScheme(Section):
    """Scheme ``inner_dirichlet``: concentration of each client's own label mix."""

    alpha: Concentration


class PathologicalScheme(Section):
    """Scheme ``pathological``: how many classes a client has, and how they are chosen."""

    classes_per_client: Count
    choice: Literal["random", "deterministic", "first_deterministic"]


class PinnedTable(Section):
    """A CSV file, by its path from the project's top folder, and its SHA-256; both empty for none.

    DVC does not watch the file, but its sum is a param: another content is another partition to DVC too.
    """

    table: str
    sha256: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")]

    @model_validator(mode="after")
    def _is_pinned(self) -> "PinnedTable":
        if self.table and not self.sha256:
            raise ValueError(f"the table needs its SHA-256 in 'sha256'; `sha256sum {self.table}` prints it")
        return self


class DistributionScheme(PinnedTable):
    """Scheme ``distribution``: clients x labels proportions, as a list of rows here or as a table."""

    proportions_of: Literal["clients", "labels"]
    values: list[list[Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]]]


class Quantity(Section):
    """What the schemes of quantity skew share: who deals the labels, and the smallest shard."""

    labels: Literal["contiguous", "iid", "shards", "inner_dirichlet", "pathological", "distribution"]
    min_size: Size


class ExponentialScheme(Section):
    """Scheme ``exponential``: growth from one client to the next."""

    rate: Positive


class LognormalScheme(Section):
    """Scheme ``lognormal``: spread of the logarithm of the sizes."""

    sigma: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class DirichletQuantityScheme(Section):
    """Scheme ``dirichlet_quantity``: concentration of the sizes."""

    alpha: Concentration


class SizesScheme(PinnedTable):
    """Scheme ``sizes``: each client's number of samples, as a list here or as a table."""

    values: list[Size]


class ByColumnScheme(PinnedTable):
    """Scheme ``by_column``: the table that names a client for each sample, and the column that does."""

    column: Annotated[str, StringConstraints(min_length=1)]
