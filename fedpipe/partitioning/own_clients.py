"""The clients that a data set names itself, in the place of a table of scheme ``by_column``."""

import hashlib
from pathlib import Path
from typing import Any

from fedpipe.config import Partition
from fedpipe.datasets.raw import RawDataset
from fedpipe.errors import PipelineError

_SCHEME = "by_column"


def with_own_clients(params: Partition, dataset: RawDataset, raw: Path) -> Partition:
    """``params`` with the data set's own table, if scheme by_column is chosen without one.

    Raises:
      PipelineError: The data set names no clients.
    """
    section: Any = params.params_of("scheme")
    if params.scheme != _SCHEME or section.table:
        return params
    if dataset.clients is None:
        raise PipelineError(
            f"params.yaml: 'partition.scheme' is {_SCHEME} without a table, and {dataset.name} in {raw} names no "
            "clients: set 'partition.by_column.table' and its 'sha256', or 'download.table.client' to a column"
        )
    path = raw / dataset.clients
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing: run the download stage again") from None
    own = section.model_copy(update={"table": str(path), "sha256": digest, "column": "client"})
    return params.model_copy(update={_SCHEME: own})
