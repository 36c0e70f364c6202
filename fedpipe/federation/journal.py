"""Files of lines that are on the disk before anything that rests on them leaves the machine."""

import errno
import os
from pathlib import Path

from fedpipe.errors import PipelineError


def append_line(file: Path, line: str) -> None:
    """Adds a line, which is on the disk afterwards; one that cannot be written whole is taken back.

    Raises:
      PipelineError: It cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab", buffering=0) as output:
            end = os.fstat(output.fileno()).st_size
            content = (line + "\n").encode()
            try:
                if output.write(content) != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(output.fileno())
            except OSError:
                output.truncate(end)
                raise
    except OSError as error:
        raise PipelineError(
            f"{file} cannot be written ({error.strerror}), and without it the site answers nothing: make room there"
        ) from None


def cut_torn_line(file: Path) -> None:
    """Takes away a last line that was not written whole, for instance when the power failed; its answer never left."""
    if file.exists() and (content := file.read_bytes()) and not content.endswith(b"\n"):
        os.truncate(file, content.rfind(b"\n") + 1)


def last_line(file: Path) -> str:
    """The last line of a file of whole lines, without reading the others; empty if there is none."""
    if not file.exists() or not (size := file.stat().st_size):
        return ""
    with file.open("rb") as opened:
        tail, end = b"", size
        while end and tail.count(b"\n") < 2:
            start = max(0, end - _PART)
            opened.seek(start)
            tail, end = opened.read(end - start) + tail, start
    return tail.splitlines()[-1].decode("utf-8", errors="replace")


_PART = 2**16
