"""A source that is an http(s) address under which the files lie."""

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from urllib.parse import urlsplit

import requests
import urllib3
from requests.exceptions import ConnectTimeout, ProxyError, RequestException, Timeout

from fedpipe.config import Download
from fedpipe.datasets.sources.published import DataFile
from fedpipe.datasets.sources.source import FileFailed, OpenFile, SourceFailed

# A source that keeps dripping never runs into the read timeout; below this it counts as stalled.
_SLOWEST = 5_000  # bytes a second
# gzip makes no file longer than this; a longer body is not read to its end.
_GZIP_OVERHEAD = 1 << 16  # bytes


@contextmanager
def web(address: str, limits: Download) -> Iterator[OpenFile]:
    """Files at ``<address>/<name>.gz``, or ``<address>/<name>`` where that does not exist.

    Args:
      address: The base address; a slash at its end makes no difference.
      limits: Seconds to wait for a connection, and for the next byte.
    """
    with _session() as session:
        yield partial(_open, session, address.rstrip("/"), limits)


@contextmanager
def web_file(address: str, largest: int, limits: Download) -> Iterator[io.BufferedReader]:
    """The bytes of the one file at ``address``.

    Args:
      address: The file's own address.
      largest: Bytes after which it is given up.
      limits: Seconds to wait for a connection, and for the next byte.

    Raises:
      FileFailed: The file does not exist, or is cut short or too long.
      SourceFailed: The server does not work.
    """
    with _session() as session, _get(session, address, limits) as response:
        if response.status_code != requests.codes.ok:
            raise FileFailed(f"HTTP {response.status_code}{_through(address)}")
        yield io.BufferedReader(_Body(response.raw, "the file", largest, limits))


def _session() -> requests.Session:
    session = requests.Session()
    # The files' own bytes: what is compressed is seen from the content.
    session.headers["Accept-Encoding"] = "identity"
    return session


@contextmanager
def _open(session: requests.Session, address: str, limits: Download, file: DataFile) -> Iterator[io.BufferedReader]:
    refusals = []
    for name in (f"{file.name}.gz", file.name):
        with _get(session, f"{address}/{name}", limits) as response:
            if response.status_code == requests.codes.ok:
                yield io.BufferedReader(_Body(response.raw, file.name, file.size, limits))
                return
            refusals.append(f"HTTP {response.status_code} for {name}")
    raise FileFailed(" and ".join(refusals) + _through(address))


def _get(session: requests.Session, url: str, limits: Download) -> requests.Response:
    """The response, its body not yet read."""
    try:
        return session.get(url, stream=True, timeout=(limits.connect_timeout, limits.read_timeout))
    except ProxyError as error:
        raise SourceFailed(f"no answer{_through(url)}: {_root_cause(error)}") from None
    except ConnectTimeout:
        raise SourceFailed(f"could not connect within {limits.connect_timeout:g} s") from None
    except Timeout:
        raise SourceFailed(_stalled(limits)) from None
    except (RequestException, urllib3.exceptions.HTTPError) as error:
        raise SourceFailed(f"no answer: {_root_cause(error)}") from None


def _through(url: str) -> str:
    """Which proxy stands between us and the server, since an answer may be the proxy's."""
    proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    return f" (through the proxy {urlsplit(proxy).netloc.rpartition('@')[2] or proxy})" if proxy else ""


class _Body(io.RawIOBase):
    """A response's body as a stream that is bounded in bytes and in time, and fails with our own reasons."""

    def __init__(self, raw: urllib3.HTTPResponse, name: str, largest: int, limits: Download):
        self._raw = raw
        self._name = name
        self._largest = largest
        self._limits = limits
        self._received = 0
        self._start = time.monotonic()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            # read1 gives what has arrived; read would wait for a full buffer, and hide a source that drips.
            block = self._raw.read1(len(buffer), decode_content=False) or b""
        except urllib3.exceptions.TimeoutError:
            raise SourceFailed(_stalled(self._limits)) from None
        except urllib3.exceptions.HTTPError as error:
            raise FileFailed(f"{self._name} was cut short: {_root_cause(error)}") from None
        buffer[: len(block)] = block
        self._received += len(block)
        self._check_bounds()
        return len(block)

    def _check_bounds(self) -> None:
        if self._received > self._largest + _GZIP_OVERHEAD:
            raise FileFailed(f"{self._name} is longer than {self._largest} bytes")
        seconds = time.monotonic() - self._start
        if seconds > self._limits.read_timeout and self._received < _SLOWEST * seconds:
            raise SourceFailed(f"too slow: {self._received} bytes in {seconds:.1f} s")


def _stalled(limits: Download) -> str:
    return f"sent nothing for {limits.read_timeout:g} s"


def _root_cause(error: BaseException) -> str:
    """The operating system's or the protocol's reason, without the layers of wrapping around it."""
    while error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
