"""Section ``download``: which data set, and where it comes from."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationInfo, field_validator, model_validator

from fedpipe.config.section import Positive, Section

Address = Annotated[str, StringConstraints(min_length=1)]
Addresses = Annotated[list[Address], Field(min_length=1)]
# It becomes part of the names of an MLflow experiment and of a registered model.
DatasetName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


class Sources(Section):
    """Where each published data set's files come from, tried in order."""

    mnist: Addresses
    fashion_mnist: Addresses


class PinnedFile(Section):
    """A file of a user data set: a path or an address, and the SHA-256 that ``sha256sum`` prints for it."""

    source: Address
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$", to_lower=True)]


class IdxFiles(Section):
    """Four IDX files, gzipped or not."""

    train_images: PinnedFile
    train_labels: PinnedFile
    test_images: PinnedFile
    test_labels: PinnedFile


class UserDataset(Section):
    """Dataset ``idx``: a user data set, as four IDX files or as one ``.npz``."""

    name: DatasetName
    files: IdxFiles | None = None
    npz: PinnedFile | None = None
    classes: Annotated[int, Field(ge=2, le=256)] | None = None  # where the files may lack the highest labels

    @model_validator(mode="after")
    def _one_form(self) -> "UserDataset":
        if (self.files is None) == (self.npz is None):
            raise ValueError("give either files (four IDX files) or npz (one file)")
        if self.name in Sources.model_fields:
            raise ValueError(f"the name {self.name} is that of a published data set: choose another")
        return self


class Download(Section):
    """Which data set, and where its files come from."""

    dataset: Literal["mnist", "fashion_mnist", "idx"]
    sources: Sources
    idx: UserDataset | None
    connect_timeout: Positive
    read_timeout: Positive

    @field_validator("idx")
    @classmethod
    def _idx_is_described(cls, idx: UserDataset | None, others: ValidationInfo) -> UserDataset | None:
        if others.data.get("dataset") == "idx" and idx is None:
            raise ValueError("dataset idx needs a name, and files or npz (docs/datasets.md)")
        return idx

    @property
    def name(self) -> str:
        """The data set's name: what its experiment and its registered model are called after."""
        return self.idx.name if self.dataset == "idx" and self.idx else self.dataset
