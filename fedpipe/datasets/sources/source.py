"""The interface of a source, and the two ways in which it fails.

A source is a context manager; while it is open it gives a function that opens one file of it, gzipped or
not. Nobody trusts what comes out: `fedpipe.datasets.sources.checksums.store` checks every byte. The text of a
failure is a short reason for people.
"""

import io
from collections.abc import Callable
from contextlib import AbstractContextManager

from fedpipe.datasets.sources.published import DataFile

OpenFile = Callable[[DataFile], AbstractContextManager[io.BufferedReader]]
Source = AbstractContextManager[OpenFile]


class FileFailed(Exception):
    """The source works but its copy of one file is missing, wrong, cut or damaged: ask for the next file."""


class SourceFailed(Exception):
    """The source does not work (unreachable, stalled, not installed): ask it for nothing more."""
