"""A table of the user's own in params.yaml: its path and its SHA-256."""

import hashlib
from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints, model_validator

from fedpipe.config.section import Section
from fedpipe.errors import PipelineError


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

    def content(self, section: str) -> bytes:
        """The bytes of the file.

        Args:
          section: The dotted name of this section in params.yaml.

        Raises:
          PipelineError: The file is missing, or has another SHA-256.
        """
        path = Path(self.table)
        try:
            content = path.read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            raise PipelineError(
                f"params.yaml: '{section}.table' is '{path}', but there is no such file (a path starts at the "
                "project's top folder)"
            ) from None
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.sha256:
            raise PipelineError(
                f"{path} has the SHA-256 {digest}, but '{section}.sha256' in params.yaml is {self.sha256}: another "
                "file is meant, or the new sum belongs there"
            )
        return content
