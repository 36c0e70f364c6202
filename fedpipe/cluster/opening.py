"""The cluster for a training, if one is chosen; Dask is imported only then."""

from contextlib import AbstractContextManager, nullcontext

from fedpipe.cluster.settings import ClusterSettings
from fedpipe.config.train import Train
from fedpipe.runtime.chunks import Elsewhere


def opened(settings: ClusterSettings | None, training: Train, data: str) -> AbstractContextManager[Elsewhere | None]:
    """The cluster for a training on the shards with the digest ``data``; nothing for this machine alone.

    Raises:
      PipelineError: The scheduler does not let us in.
    """
    if settings is None:
        return nullcontext()
    from fedpipe.cluster.cluster import Cluster

    return Cluster(settings, training, data)
