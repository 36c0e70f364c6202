"""How a coordinator reaches its sites: federation.yaml, which git ignores, for it changes no result."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError, model_validator

from fedpipe.config.mistakes import mistakes
from fedpipe.config.section import Count, Positive, Section
from fedpipe.config.text import read_yaml
from fedpipe.errors import PipelineError

Folder = Annotated[Path, Field(strict=False)]


class FlareKits(Section):
    """The folders of two kits of `nvflare provision`, both on the coordinator's machine."""

    server: Folder  # of the server
    admin: Folder  # of the user who submits jobs


class LinkSettings(Section):
    """How sites reach the coordinator, and how patient it is with them."""

    link: Literal["grpc", "flare"] = "grpc"
    address: Annotated[str, StringConstraints(pattern=r"^(.+:[0-9]{1,5})?$")] = ""  # host:port to listen at; grpc
    certificates: Folder  # the folder with the coordinator's certificate; grpc
    flare: FlareKits | None = None
    wait_seconds: Positive = 600.0  # for a site that is not connected; then it is lost
    answer_seconds: Positive = 3600.0  # for the answer of one that is
    quorum: Count | None = None  # sites that suffice for a round when others are lost; None: all must answer

    @model_validator(mode="after")
    def _is_whole(self) -> "LinkSettings":
        if self.link == "grpc" and not self.address:
            raise ValueError("key 'address' is missing: write where the coordinator listens, 'address: 0.0.0.0:8443'")
        if self.link == "flare" and self.flare is None:
            raise ValueError("'link' is flare: write the folders of two kits as 'flare.server' and 'flare.admin'")
        if self.link == "flare" and self.quorum is not None:
            raise ValueError("'link' is flare, whose job ends when a site is lost: remove 'quorum'")
        return self

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
