"""The driver's connection to the scheduler, made again when it is lost."""

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from fedpipe.cluster.connections import configure, security
from fedpipe.cluster.settings import ClusterSettings
from fedpipe.errors import PipelineError

if TYPE_CHECKING:
    from distributed import Client

_CONNECT_SECONDS = 10.0


class Known(NamedTuple):
    """What the scheduler says of a worker."""

    name: str
    slots: int  # threads


class Connection:
    """The connection, and the workers that the scheduler knows."""

    def __init__(self, settings: ClusterSettings) -> None:
        """Connects.

        Raises:
          PipelineError: The scheduler does not answer, or a certificate is missing.
        """
        configure()
        for name in ("distributed", "distributed.client", "distributed.core"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # we say ourselves what is lost
        self._address = settings.dask_address
        self._security = security(self._address, settings.certificates, "driver")
        self.client: Client | None = None  # None while the connection is lost
        try:
            self._connect()
        except (OSError, ValueError) as error:
            raise PipelineError(
                f"the cluster's scheduler at {settings.address} does not let us in ({error or type(error).__name__}): "
                "start it (docs/cluster.md), and use certificates of the same CA"
            ) from error

    def workers(self) -> dict[str, Known]:
        """The workers by their addresses; none without a scheduler."""
        try:
            if self.client is None:
                self._connect()
            client: Any = self.client
            if client.status != "running":
                raise OSError("the scheduler is gone")
            identity = client.sync(client.scheduler.identity, n_workers=-1, callback_timeout=_CONNECT_SECONDS)
        except (OSError, ValueError):  # Dask's CommClosedError and TimeoutError are OSErrors
            self.close(1)
            return {}
        return {address: Known(str(told["name"]), told["nthreads"]) for address, told in identity["workers"].items()}

    def close(self, seconds: float = 5) -> None:
        """Ends the connection within so many ``seconds``."""
        client, self.client = self.client, None
        if client is not None:
            client.close(timeout=seconds)

    def _connect(self) -> None:
        from distributed import Client

        self.client = Client(self._address, security=self._security, timeout=_CONNECT_SECONDS, set_as_default=False)
