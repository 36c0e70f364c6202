"""A table of the user's own in params.yaml: its path and its SHA-256."""

from typing import Annotated

from pydantic import StringConstraints, model_validator

from fedpipe.config.section import Section


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
