"""Outputs that take their places together: written beside, then moved, and moved back if one of them cannot be."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from fedpipe.errors import PipelineError
from fedpipe.system.signals import blocked

_PLACING = ".placing"  # exists while outputs are moved; outputs beside it are moved back
_FORMER = ".former"
_RESERVED = ".reserved"


class StagedOutputs:
    """The outputs of one stage, each in a hidden folder beside its place until `place` moves all of them.

    Use it as a context manager, and enter it before the work begins: entering finds a folder that cannot be written to
    and a disk without room. Leaving it without `place` leaves every output as it was.

    Args:
      stage: The stage's name; two stages may have outputs in one folder.
      outputs: For each output, a file or a folder, the bytes of disk to reserve for it; 0 where that is not known.
    """

    def __init__(self, stage: str, outputs: Mapping[Path, int]) -> None:
        self._outputs = dict(outputs)
        self._folder = f".{stage}.partial"

    def __enter__(self) -> "StagedOutputs":
        self.roll_back()
        try:
            for output, size in self._outputs.items():
                with _naming(output):
                    self._reserve(self._staged(output), size)
        except BaseException:
            self._clear()
            raise
        return self

    @contextmanager
    def writing(self, output: Path) -> Iterator[Path]:
        """Yields where to write ``output``, with the disk that was reserved for it.

        Raises:
          PipelineError: It cannot be written; the message names it.
        """
        staged = self._staged(output)
        with _naming(output, staged):
            _beside(staged, _RESERVED).unlink(missing_ok=True)
            yield staged

    def copy(self, tables: Sequence[Path], folder: Path) -> None:
        """Fills the output ``folder`` with copies of the outputs ``tables``, which are written by now.

        Raises:
          PipelineError: The folder cannot be written.
        """
        with self.writing(folder) as staged:
            staged.mkdir()
            for table in tables:
                shutil.copyfile(self._staged(table), staged / table.name)

    def place(self) -> None:
        """Moves all outputs to their places.

        Raises:
          PipelineError: One of them cannot be moved; then all are as they were.
        """
        for output in self._outputs:
            with _naming(output):
                _to_disk(self._staged(output))
        with blocked():
            try:
                self._placing().touch()
                for output in self._outputs:
                    with _naming(output):
                        staged = self._staged(output)
                        if os.path.lexists(output):
                            output.replace(_beside(staged, _FORMER))
                        staged.replace(output)
            except BaseException:
                self.roll_back()
                raise
            self._placing().unlink()  # from here on they are in place

    def roll_back(self) -> None:
        """Moves the outputs back of a stage that was killed while it moved them, and clears the rest."""
        if self._placing().exists():
            for output in self._outputs:
                staged = self._staged(output)
                former = _beside(staged, _FORMER)
                if not os.path.lexists(staged) and os.path.lexists(output):
                    _remove(output)
                if os.path.lexists(former):
                    former.replace(output)
            self._placing().unlink()
        self._clear()

    def __exit__(self, *_: object) -> None:
        self._clear()

    def _staged(self, output: Path) -> Path:
        return output.parent / self._folder / output.name

    def _placing(self) -> Path:
        return self._staged(next(iter(self._outputs))).with_name(_PLACING)

    def _reserve(self, staged: Path, size: int) -> None:
        staged.parent.mkdir(parents=True, exist_ok=True)
        with _beside(staged, _RESERVED).open("wb") as reserved:
            if size:
                os.posix_fallocate(reserved.fileno(), 0, size)

    def _clear(self) -> None:
        for folder in {self._staged(output).parent for output in self._outputs}:
            shutil.rmtree(folder, ignore_errors=True)


def _beside(staged: Path, suffix: str) -> Path:
    return staged.with_name(staged.name + suffix)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _to_disk(path: Path) -> None:
    if path.is_file():
        with path.open("rb+") as written:
            os.fsync(written.fileno())


@contextmanager
def _naming(output: Path, staged: Path | None = None) -> Iterator[None]:
    """Says of an error that ``output`` cannot be written, unless it is about a file elsewhere than ``staged``."""
    try:
        yield
    except OSError as error:
        name = error.filename2 or error.filename
        if staged and name and staged.parent.absolute() not in Path(os.fsdecode(name)).absolute().parents:
            raise
        raise PipelineError(f"{output} cannot be written: {error.strerror or error}") from None
