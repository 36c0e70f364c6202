"""Rows of a CSV or Parquet file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fedpipe.errors import PipelineError

if TYPE_CHECKING:
    import pandas as pd

_PARQUET_MAGIC = b"PAR1"


def read_rows(path: Path, called: str, texts: Sequence[str] = ()) -> "pd.DataFrame":
    """The rows of a CSV file (gzipped or not, UTF-8, a header first) or of a Parquet file.

    Args:
      path: The file; its first bytes show the format.
      called: What messages call it.
      texts: Columns of a CSV file that are read as text, so that 01 stays 01.

    Raises:
      PipelineError: It cannot be read, or has no rows.
    """
    import pandas as pd

    try:
        with path.open("rb") as file:
            magic = file.read(4)
        if magic == _PARQUET_MAGIC:
            rows = pd.read_parquet(path, engine="pyarrow")
        else:
            packed: Literal["gzip"] | None = "gzip" if magic[:2] == b"\x1f\x8b" else None
            rows = pd.read_csv(
                path,
                compression=packed,
                dtype=dict.fromkeys(texts, str),
                encoding="utf-8-sig",
                float_precision="round_trip",
                low_memory=False,
            )
    except (ValueError, EOFError, OSError, ImportError) as error:  # pandas' and pyarrow's own errors are ValueErrors
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise PipelineError(f"{called} is no CSV or Parquet file that can be read: {reason}") from None
    if rows.empty:
        raise PipelineError(f"{called} has no rows")
    return rows
