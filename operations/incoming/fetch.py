"""Copies batches from where clients leave them, a folder or a bucket, to data/incoming/."""

import os
from contextlib import suppress
from pathlib import PurePosixPath

from fedpipe.atomic import atomic_file
from fedpipe.datasets.ledger import present, withdrawn_batches
from fedpipe.datasets.pool import Pool
from fedpipe.errors import PipelineError
from layout import POOL
from operations.incoming.batches import HASH_SUFFIX, batch_of
from operations.incoming.decisions import read_decisions, rejected_names
from operations.incoming.folders import INCOMING


def fetch(url: str) -> list[str]:
    """Copies the files of all batches that the pool does not have, or has lost; nothing is deleted there.

    Batches that were withdrawn, or that a person rejected, are left where they are.

    Args:
      url: A folder that fsspec knows to open: a path, ``s3://bucket/prefix``, ...

    Returns:
      The names of the batches.

    Raises:
      PipelineError: The folder cannot be listed or read.
    """
    # fsspec's back ends raise errors of their own kinds, all of them from these.
    import fsspec  # type: ignore[import-untyped]
    from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

    pool = Pool(POOL)
    entries = pool.read_ledger()
    done = {entry.batch for entry in present(entries) if pool.batch_path(entry.batch).exists()}
    done |= {*withdrawn_batches(entries), *rejected_names(read_decisions(pool.decisions))}
    fetched = set()
    try:
        files, root = fsspec.core.url_to_fs(url)
        # The hashes last: a batch without them is not taken for a whole one.
        listed = sorted(files.ls(root, detail=False), key=lambda path: (path.endswith(HASH_SUFFIX), path))
        for path in listed:
            name = PurePosixPath(path).name
            batch = batch_of(name)
            if batch is None or batch in done or not files.isfile(path):
                continue
            with atomic_file(INCOMING / name) as partial:
                files.get_file(path, str(partial))
                # How long its hash has been missing counts from when it came there, not here; few places do not tell.
                with suppress(NotImplementedError):
                    modified = files.modified(path).timestamp()
                    os.utime(partial, (modified, modified))
            fetched.add(batch)
    except (OSError, ValueError, ImportError, BotoCoreError, ClientError) as error:
        raise PipelineError(f"cannot fetch batches from {url}: {error}") from None
    return sorted(fetched)
