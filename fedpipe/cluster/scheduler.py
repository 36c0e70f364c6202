"""The driver's connection to the scheduler, made again when it is lost."""

import logging
import socket
import ssl
from typing import TYPE_CHECKING, Any

from fedpipe.cluster.connections import configure, security
from fedpipe.cluster.settings import ClusterSettings, dask_address
from fedpipe.errors import PipelineError

if TYPE_CHECKING:
    from distributed import Client

_CONNECT_SECONDS = 10.0


class Connection:
    """The connection, and the workers that the scheduler knows."""

    def __init__(self, settings: ClusterSettings) -> None:
        """Connects.

        Raises:
          PipelineError: The scheduler does not answer, or a certificate is missing.
        """
        configure()
        for name in ("distributed", "distributed.client", "distributed.core"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # fedpipe reports losses itself
        self._address = dask_address(settings.address)
        self._security = security(self._address, settings.certificates, "driver")
        self.client: Client | None = None  # None while the connection is lost
        try:
            self._connect()
        except (OSError, ValueError) as error:
            raise PipelineError(
                f"the cluster's scheduler at {settings.address} does not let us in: {self._why_not()} (docs/cluster.md)"
            ) from error

    @property
    def is_there(self) -> bool:
        """Whether the connection stands."""
        return self.client is not None and self.client.status == "running"

    def workers(self) -> dict[str, int]:
        """How many threads each worker has, by its address; none without a scheduler."""
        try:
            if self.client is None:
                self._connect()
            client: Any = self.client
            if not self.is_there:
                raise OSError("the scheduler is gone")
            identity = client.sync(client.scheduler.identity, n_workers=-1, callback_timeout=_CONNECT_SECONDS)
        except (OSError, ValueError):  # Dask's CommClosedError and TimeoutError are OSErrors
            self.close(1)
            return {}
        return {address: int(worker["nthreads"]) for address, worker in identity["workers"].items()}

    def close(self, seconds: float = 5) -> None:
        """Ends the connection within so many ``seconds``."""
        client, self.client = self.client, None
        if client is not None:
            client.close(timeout=seconds)

    def _why_not(self) -> str:
        """The fault and its remedy."""
        host, port = self._address.partition("://")[2].rsplit(":", 1)
        try:
            plain = socket.create_connection((host, int(port)), _CONNECT_SECONDS)
        except OSError as error:
            return f"nobody answers there ({error.strerror or error}); start it, or correct the address"
        if self._security is None:
            plain.close()
            return "it wants encryption, or is no scheduler; write tls:// in the address, or correct it"
        context: ssl.SSLContext = self._security.get_connection_args("client")["ssl_context"]
        try:
            with plain, context.wrap_socket(plain) as encrypted:
                encrypted.recv(1)  # the other side refuses our certificate after the handshake
        except OSError as error:
            return f"its certificate and ours are not of the same CA, or it has none ({error.strerror or error})"
        return "what answers there is no scheduler; correct the address"

    def _connect(self) -> None:
        from distributed import Client

        self.client = Client(self._address, security=self._security, timeout=_CONNECT_SECONDS, set_as_default=False)
