"""The link that federation.yaml names."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from fedpipe.links.settings import LinkSettings

if TYPE_CHECKING:
    from fedpipe.federation.answers import Link


def open_link(
    settings: LinkSettings, sites: Sequence[str], say: Callable[[str], None]
) -> "AbstractContextManager[Link]":
    """The link of a coordinator to ``sites``, which begins when it is entered.

    Args:
      settings: Of federation.yaml.
      sites: Their names.
      say: Called with a line about sites that come, go and are waited for.

    Raises:
      PipelineError: A certificate or a kit is missing or not as it should be, or NVIDIA FLARE is not installed.
    """
    if settings.link == "flare":
        from fedpipe.links.flare_link import FlareLink

        return FlareLink.of(settings, sites, say)
    from fedpipe.links.coordinator_side import GrpcLink

    return GrpcLink.of(settings, sites, say)
