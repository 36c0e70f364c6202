"""Dask's settings for us: mutual TLS or, if asked for by name, none; and nothing that listens besides."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedpipe.system.certificates import files

if TYPE_CHECKING:
    from distributed.security import Security

LOOPBACK = "127.0.0.1"
# Dask serves HTTP even without a dashboard: on loopback, and without a single page.
NO_HTTP: dict[str, Any] = {"dashboard": False, "dashboard_address": f"{LOOPBACK}:0"}


def security(dask_address: str, certificates: Path, name: str) -> "Security | None":
    """Mutual TLS with the certificate ``name``; None for an address without encryption.

    Raises:
      PipelineError: The certificate is missing.
    """
    if dask_address.startswith("tcp://"):
        return None
    from distributed.security import Security

    ca, certificate, key = map(str, files(certificates, name))
    roles = ("scheduler", "worker", "client")
    each = {f"tls_{role}_cert": certificate for role in roles} | {f"tls_{role}_key": key for role in roles}
    return Security(tls_ca_file=ca, require_encryption=True, **each)


def configure(silent_seconds: float = 30.0) -> None:
    """Sets Dask's options for every process of this project; a worker that is silent for so long counts as gone."""
    import dask
    import distributed  # noqa: F401 - brings its defaults, which the lines below replace

    dask.config.set(
        {
            "distributed.scheduler.http.routes": [],
            "distributed.worker.http.routes": [],
            "distributed.scheduler.worker-ttl": f"{silent_seconds} s",
            "distributed.admin.large-graph-warning-threshold": "1 TiB",  # a message is as large as the model
            "distributed.comm.timeouts.connect": "10 s",
            "distributed.scheduler.active-memory-manager.start": False,
            "distributed.scheduler.work-stealing": False,
        }
    )
