"""From an address in params.yaml to a source."""

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

from fedpipe.config import Download
from fedpipe.datasets.sources.apt import apt_package
from fedpipe.datasets.sources.folder import folder
from fedpipe.datasets.sources.npm import npm_package
from fedpipe.datasets.sources.published import Dataset
from fedpipe.datasets.sources.source import Source
from fedpipe.datasets.sources.web import web
from fedpipe.errors import PipelineError

_NPM = re.compile(r"npm:((?:@[\w.-]+/)?\w[\w.-]*@\d[\w.+-]*)")
_APT = re.compile(r"apt:([a-z0-9][a-z0-9+.-]+(?:=\d[\w.+~:-]*)?)")
_FILE = re.compile(r"file:(?://(?:localhost)?)?(/(?!/).*)", re.IGNORECASE)
_WEB = re.compile(r"https?://.+", re.IGNORECASE)
_SCHEME = re.compile(r"npm:|apt:|file:|[\w+.-]+://", re.IGNORECASE)


def first_source(dataset: Dataset) -> str:
    """The environment variable whose address goes before those of params.yaml: ``FEDPIPE_MNIST_SOURCE``."""
    return f"FEDPIPE_{dataset.name.upper()}_SOURCE"


def sources(dataset: Dataset, params: Download, environment: Mapping[str, str]) -> list[tuple[str, Source]]:
    """The sources of a data set in the order in which they are tried, each with the name that messages give it.

    Args:
      dataset: Whose sources.
      params: The addresses of params.yaml, and the time limits.
      environment: The `first_source` in it, if not empty, is the address that goes first.

    Raises:
      PipelineError: An address is of no known kind.
    """
    first = environment.get(first_source(dataset))
    named: list[str] = getattr(params.sources, dataset.name)
    addresses = [first, *named] if first else named
    return [(without_password(address), _source(address, dataset, params)) for address in dict.fromkeys(addresses)]


def _source(address: str, dataset: Dataset, params: Download) -> Source:
    """The source behind one address; nothing is opened yet."""
    if match := _NPM.fullmatch(address):
        return npm_package(match[1], params)
    if match := _APT.fullmatch(address):
        return apt_package(match[1], params)
    place = web_or_path(address)
    if isinstance(place, Path):
        return folder(place)
    if place:
        return web(place, params)
    raise PipelineError(
        f"the download source '{without_password(address)}' (params.yaml, download.sources.{dataset.name}, or "
        f"{first_source(dataset)}) is of no known kind; allowed: http://..., https://..., file:///..., "
        "npm:<package>@<version>, apt:<package>, or a folder"
    )


def web_or_path(address: str) -> str | Path | None:
    """An http(s) address as it is, a path or a ``file:`` address as a path, None for any other scheme."""
    if match := _FILE.fullmatch(address):
        return Path(unquote(match[1]))
    if _WEB.fullmatch(address):
        return address
    return None if _SCHEME.match(address) else Path(address)


def without_password(address: str) -> str:
    """The address without user and password, for logs: messages name every source."""
    return re.sub(r"//[^/@]*@", "//", address)
