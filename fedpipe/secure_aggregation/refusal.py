"""The error of this package: a message is not acceptable, and the protocol does not continue with it."""

from fedpipe.errors import PipelineError


class Refused(PipelineError):
    """A message, a step or a setting is rejected.

    Attributes:
      site: The number of the site at fault; None if that is not known, or if it is the coordinator.
    """

    def __init__(self, message: str, site: int | None = None) -> None:
        super().__init__(message)
        self.site = site
