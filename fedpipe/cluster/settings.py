"""Which cluster trains, if any: FEDPIPE_CLUSTER in the environment, or cluster.yaml, which git ignores.

It is no param, because it changes no result: DVC knows nothing of it.
"""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from fedpipe.config.mistakes import mistakes
from fedpipe.config.section import Positive, Section
from fedpipe.config.text import read_yaml
from fedpipe.config.train import Train
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.contracts.compressor import COMPRESSORS
from fedpipe.errors import PipelineError
from fedpipe.privacy.requirements import require_no_secret
from fedpipe.system.certificates import files

ADDRESS, CERTIFICATES, SHARED_FOLDER = "FEDPIPE_CLUSTER", "FEDPIPE_CERTIFICATES", "FEDPIPE_SHARED_FOLDER"
TLS, INSECURE = "tls://", "tcp+insecure://"


class ClusterSettings(Section):
    """How the cluster is reached, and how patient a run is with it."""

    address: str = ""  # tls://host:port of the scheduler; nothing for this machine alone
    certificates: Annotated[Path, Field(strict=False)] = Path("certificates")
    # That all machines have under this path; only for client state.
    shared_folder: Annotated[Path | None, Field(strict=False)] = None
    chunk_seconds: Positive = 600.0  # a chunk that takes longer is computed again, by another worker if there is one
    wait_seconds: Positive = 600.0  # for a worker, when there is none; then the run stops


def dask_address(address: str) -> str:
    """The address as Dask writes it: ``tls://host:port``, or ``tcp://host:port`` for ``tcp+insecure://host:port``.

    Raises:
      PipelineError: It is anything else, such as the address of a connection that nothing protects.
    """
    scheme, _, place = address.partition("://")
    host, _, port = place.rpartition(":")
    if host and port.isdecimal() and int(port) < 2**16:
        if address.startswith(TLS):
            return address
        if address.startswith(INSECURE):
            return f"tcp://{place}"
        if scheme == "tcp":
            raise PipelineError(
                f"the cluster's address {address} is not protected, so anybody who reaches it can run code on all "
                f"machines: use {TLS}{place} with `make certificates`, or say {INSECURE}{place} to accept that"
            )
    raise PipelineError(f"the cluster's address is {address!r}, but should be {TLS}host:port")


def chosen(file: Path) -> ClusterSettings | None:
    """The cluster that trains; None for this machine alone.

    Raises:
      PipelineError: ``file`` or the address is not as it should be, or Dask is not installed.
    """
    content = read_yaml(file) if file.exists() else {}
    named = {"address": ADDRESS, "certificates": CERTIFICATES, "shared_folder": SHARED_FOLDER}
    content |= {key: os.environ[name] for key, name in named.items() if name in os.environ}
    try:
        settings = ClusterSettings.model_validate(content)
    except ValidationError as error:
        raise PipelineError(f"{file}: {'; '.join(mistakes(error, ClusterSettings))}") from None
    if not settings.address:
        return None
    dask_address(settings.address)  # raises if it is wrong
    require_dask()
    return settings


def require_fitting(settings: ClusterSettings, training: Train) -> None:
    """Checks what can be checked before any stage runs: that this training can have this cluster.

    Raises:
      PipelineError: Its noise is secret, its clients keep files and there is no shared folder, or the driver's
        certificate is not there.
    """
    require_no_secret(training)
    keeping = _keeps_files(training)
    if keeping and (settings.shared_folder is None or not settings.shared_folder.is_dir()):
        missing = "" if settings.shared_folder is None else f"; {settings.shared_folder} is no folder here"
        raise PipelineError(
            f"params.yaml: {keeping} keeps a file per client, for all workers{missing}: put the project into a folder "
            "that all machines have under the same path and name that folder as shared_folder in cluster.yaml, or "
            f"train without {ADDRESS}"
        )
    if settings.address.startswith(TLS):
        files(settings.certificates, "driver")


def _keeps_files(training: Train) -> str:
    """The param whose choice makes clients keep files from round to round; empty if none does."""
    if ALGORITHMS.of(training.algorithm).keeps_files:
        return f"'train.algorithm' {training.algorithm}"
    return f"'train.compressor' {training.compressor}" if COMPRESSORS.of(training.compressor).keeps_files else ""


def require_dask() -> None:
    """Raises PipelineError if Dask is not installed."""
    if find_spec("distributed") is None:
        raise PipelineError(
            "the package distributed is not installed: run `make cluster-env`, or unset FEDPIPE_CLUSTER"
        )
