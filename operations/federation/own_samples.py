"""A site's own samples: its clients' shards, made from sections download and partition of the site's params.yaml."""

import os
import subprocess
import sys
from pathlib import Path

import layout
from fedpipe import params
from fedpipe.contracts.partition import PARTITIONERS
from fedpipe.errors import PipelineError


def make_shards() -> None:
    """Runs ``dvc repro partition``, which does nothing where shards are there that were made with these params.

    Raises:
      PipelineError: params.yaml is not valid or is the coordinator's, or a stage failed.
    """
    params.validate(layout.PARAMS)
    require_own(params.load(params.Partition, layout.PARAMS))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [sys.executable, "-m", "dvc", "repro", "--quiet", "partition"]
    if subprocess.run(command, env=os.environ | {"PATH": path}, check=False).returncode:
        raise PipelineError(
            "this site's samples could not be partitioned (the reason is above): put that right in sections download "
            f"and partition of {layout.PARAMS}, or name a folder of shards with --shards"
        )


def require_own(partition: params.Partition) -> None:
    """Raises PipelineError if the params are the coordinator's, whose scheme has no samples."""
    if PARTITIONERS.of(partition.scheme).AT_SITES:
        raise PipelineError(
            f"{layout.PARAMS}: 'partition.scheme' is {partition.scheme}, which is for the coordinator: write how this "
            "site's samples become clients' shards, for instance 'scheme: contiguous' and 'clients: 1' for one client, "
            "or 'scheme: by_column' for the clients of a table (docs/partitioning.md)"
        )
