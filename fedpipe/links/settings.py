"""Where a coordinator listens for its sites: federation.yaml, which git ignores, for it changes no result."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, ValidationError

from fedpipe.config.mistakes import mistakes
from fedpipe.config.section import Positive, Section
from fedpipe.config.text import read_yaml
from fedpipe.errors import PipelineError


class LinkSettings(Section):
    """How sites reach the coordinator, and how patient it is with them."""

    address: Annotated[str, StringConstraints(pattern=r"^.+:[0-9]{1,5}$")]  # host:port to listen at
    # The folder with the coordinator's certificate.
    certificates: Annotated[Path, Field(strict=False)]
    wait_seconds: Positive = 600.0  # for a site that is not connected; then the training stops with a checkpoint
    answer_seconds: Positive = 3600.0  # for the answer of one that is

    @staticmethod
    def read(file: Path, certificates: Path) -> "LinkSettings":
        """Reads ``file``.

        Args:
          file: The file.
          certificates: Their folder, if the file names none.

        Raises:
          PipelineError: It is missing, or not as it should be.
        """
        if not file.exists():
            raise PipelineError(f"{file} is missing: write where the coordinator listens, 'address: 0.0.0.0:8443'")
        try:
            return LinkSettings.model_validate({"certificates": certificates} | read_yaml(file))
        except ValidationError as error:
            raise PipelineError(f"{file}: {'; '.join(mistakes(error, LinkSettings))}") from None
