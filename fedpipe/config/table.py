"""Section ``download.table``: a table of the user's own, with the roles of its columns."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from fedpipe.config.section import Rate, Section, Seed

Address = Annotated[str, StringConstraints(min_length=1)]
# It becomes part of the names of an MLflow experiment and of a registered model.
DatasetName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Column = Annotated[str, StringConstraints(min_length=1)]


class PinnedFile(Section):
    """A file of a user data set: a path or an address, and the SHA-256 that ``sha256sum`` prints for it."""

    source: Address
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$", to_lower=True)]


class DrawnTest(Section):
    """Test rows that are drawn: their share of all rows, and the seed of the draw."""

    share: Annotated[Rate, Field(gt=0)]
    seed: Seed = 2024


class Table(Section):
    """Dataset ``table``: a CSV or Parquet file, and the roles of its columns."""

    name: DatasetName
    file: PinnedFile
    numbers: Literal["others"] | list[Column] = Field(default_factory=list)
    categories: list[Column] = Field(default_factory=list)
    label: Column | Annotated[list[Column], Field(min_length=1)]
    labels: Literal["classes", "numbers"] = "classes"
    client: Column | None = None
    split: Column | DrawnTest
    missing: dict[str, float | str] = Field(default_factory=dict)

    @property
    def label_columns(self) -> list[str]:
        """The columns of the label."""
        return [self.label] if isinstance(self.label, str) else self.label

    @property
    def other_roles(self) -> list[str]:
        """The columns that have another role than that of a number."""
        roles = [*self.categories, *self.label_columns]
        roles += [] if self.client is None else [self.client]
        return roles + ([self.split] if isinstance(self.split, str) else [])

    @model_validator(mode="after")
    def _columns_have_one_role(self) -> "Table":
        named = [*([] if self.numbers == "others" else self.numbers), *self.other_roles]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise ValueError(
                f"column '{twice[0]}' has two roles: a column is a number, a category, the label, or another"
            )
        if not self.numbers and not self.categories:
            raise ValueError("name the columns of a sample: 'numbers' (a list, or others) and 'categories'")
        if self.labels == "classes" and len(self.label_columns) > 1:
            raise ValueError("several label columns must be numbers: set 'labels' to numbers, or name one column")
        unknown = sorted(set(self.missing) - {*named}) if self.numbers != "others" else []
        if unknown:
            raise ValueError(f"'missing' names '{unknown[0]}', which is no column of a sample")
        return self
