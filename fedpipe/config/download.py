"""Section ``download``: which data set, and where it comes from."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from fedpipe.config.section import Positive, Section
from fedpipe.config.table import Address, DatasetName, PinnedFile, Table

__all__ = ["Constants", "DatasetName", "Download", "IdxFiles", "PinnedFile", "Sources", "Table", "UserDataset"]

Addresses = Annotated[list[Address], Field(min_length=1)]


class Sources(Section):
    """Where each published data set's files come from, tried in order."""

    mnist: Addresses
    fashion_mnist: Addresses


class IdxFiles(Section):
    """Four IDX files, gzipped or not."""

    train_images: PinnedFile
    train_labels: PinnedFile
    test_images: PinnedFile
    test_labels: PinnedFile


class UserDataset(Section):
    """Dataset ``idx``: a user data set, as four IDX files or as one ``.npz``.

    ``samples`` other than images, and ``labels`` that are numbers, come from an ``.npz``.
    """

    name: DatasetName
    files: IdxFiles | None = None
    npz: PinnedFile | None = None
    classes: Annotated[int, Field(ge=2, le=256)] | None = None  # where the files may lack the highest labels
    samples: Literal["images", "uint8", "float32", "int32"] = "images"
    labels: Literal["classes", "numbers"] = "classes"

    @model_validator(mode="after")
    def _one_form(self) -> "UserDataset":
        if (self.files is None) == (self.npz is None):
            raise ValueError("give either files (four IDX files) or npz (one file)")
        if self.name in Sources.model_fields:
            raise ValueError(f"the name {self.name} is that of a published data set: choose another")
        if self.files is not None and not self.is_of_images:
            raise ValueError(
                f"samples {self.samples} with labels {self.labels} come from an npz: four IDX files hold images and "
                "classes"
            )
        return self

    @property
    def is_of_images(self) -> bool:
        """Whether samples are images and labels classes."""
        return self.samples == "images" and self.labels == "classes"


class Constants(Section):
    """Means and deviations that samples are standardised with: of each column, or of each place on the last axis.

    The last axis of images are their channels, whose values count from 0 to 1.
    """

    means: dict[str, float] | list[float]
    deviations: dict[str, Positive] | list[Positive]


class Download(Section):
    """Which data set, and where its files come from."""

    dataset: Literal["mnist", "fashion_mnist", "idx", "table"]
    sources: Sources
    idx: UserDataset | None
    table: Table | None = None
    standardise: Literal["training"] | Constants | None = None
    agreed: PinnedFile | None = None  # dataset.json of the coordinator, at a site whose samples are no images
    connect_timeout: Positive
    read_timeout: Positive

    @field_validator("idx")
    @classmethod
    def _idx_is_described(cls, idx: UserDataset | None, others: ValidationInfo) -> UserDataset | None:
        if others.data.get("dataset") == "idx" and idx is None:
            raise ValueError("dataset idx needs a name, and files or npz (docs/datasets.md)")
        return idx

    @model_validator(mode="after")
    def _table_is_described(self) -> "Download":
        if self.dataset == "table" and self.table is None:
            raise ValueError("dataset table needs the section 'table': a file and its columns (docs/tabular-data.md)")
        if self.table is not None and self.table.name in Sources.model_fields:
            raise ValueError(f"the name {self.table.name} is that of a published data set: choose another")
        names = isinstance(self.standardise, Constants) and isinstance(self.standardise.means, dict)
        if names and self.dataset != "table":
            raise ValueError("'standardise' names columns, which only a table has: give lists of numbers")
        is_of_tokens = self.dataset == "idx" and self.idx is not None and self.idx.samples == "int32"
        if self.standardise is not None and is_of_tokens:
            raise ValueError(
                "'standardise' is not for int32 samples, which are counts or tokens: set it to null, or 'idx.samples' "
                "to float32"
            )
        return self

    @model_validator(mode="after")
    def _agreed_is_all(self) -> "Download":
        if self.agreed is None:
            return self
        is_array = self.dataset == "idx" and self.idx is not None and not self.idx.is_of_images
        if self.dataset != "table" and not is_array:
            raise ValueError(
                "'agreed' is for tables and for arrays that are no images: remove it ('idx.classes' says how many "
                "classes images have)"
            )
        if self.standardise is not None:
            raise ValueError("'agreed' has means and deviations, if there are any: set 'standardise' to null")
        return self

    @property
    def name(self) -> str:
        """The data set's name: what its experiment and its registered model are called after."""
        chosen = {"idx": self.idx, "table": self.table}.get(self.dataset)
        return self.dataset if chosen is None else chosen.name
