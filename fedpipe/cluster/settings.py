"""Which cluster trains, if any: FEDPIPE_CLUSTER in the environment, or cluster.yaml, which git ignores.

It is no param, because it changes no result: DVC knows nothing of it.
"""

import os
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from fedpipe.cluster.certificates import files
from fedpipe.config.section import Positive, Section
from fedpipe.config.train import Train
from fedpipe.contracts.algorithm import ALGORITHMS
from fedpipe.contracts.compressor import COMPRESSORS
from fedpipe.errors import PipelineError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from fedpipe.cluster.cluster import Cluster

ADDRESS, CERTIFICATES, SHARED_FOLDER = "FEDPIPE_CLUSTER", "FEDPIPE_CERTIFICATES", "FEDPIPE_SHARED_FOLDER"
TLS, INSECURE = "tls://", "tcp+insecure://"


class ClusterSettings(Section):
    """How the cluster is reached, and how patient a run is with it."""

    address: str = ""  # tls://host:port of the scheduler; nothing for this machine alone
    certificates: Annotated[Path, Field(strict=False)] = Path("certificates")
    shared_folder: Annotated[Path | None, Field(strict=False)] = (
        None  # that all machines have under this path; only for what clients keep
    )
    chunk_seconds: Positive = 600.0  # a chunk that takes longer is computed again, by another worker if there is one
    wait_seconds: Positive = 600.0  # for a worker, when there is none; then the run stops

    @property
    def dask_address(self) -> str:
        """The address as Dask writes it.

        Raises:
          PipelineError: It is no address of an encrypted connection, and does not say so.
        """
        return dask_address(self.address)


def dask_address(address: str) -> str:
    """``tls://host:port``, or ``tcp://host:port`` for ``tcp+insecure://host:port``.

    Raises:
      PipelineError: It is anything else.
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
    content: dict[str, object] = {}
    if file.exists():
        try:
            content = YAML(typ="safe").load(file.read_text(encoding="utf-8")) or {}
        except (YAMLError, UnicodeDecodeError) as error:
            mark = getattr(error, "problem_mark", None)
            where = f", line {mark.line + 1}" if mark else ""
            raise PipelineError(f"{file}{where} is not valid YAML: {getattr(error, 'problem', error)}") from None
        if not isinstance(content, dict):
            raise PipelineError(f"{file} should hold keys such as `address: tls://host:port`")
    named = {"address": ADDRESS, "certificates": CERTIFICATES, "shared_folder": SHARED_FOLDER}
    content |= {key: os.environ[name] for key, name in named.items() if name in os.environ}
    try:
        settings = ClusterSettings.model_validate(content)
    except ValidationError as error:
        raise PipelineError(f"{file}: {'; '.join(map(_problem, error.errors()))}") from None
    if not settings.address:
        return None
    settings.dask_address  # noqa: B018 - raises if it is wrong
    require_dask()
    return settings


def _problem(found: "ErrorDetails") -> str:
    """What is wrong with one key, and what is allowed."""
    key = ".".join(map(str, found["loc"]))
    if found["type"] == "extra_forbidden":
        return f"unknown key '{key}'; allowed: {', '.join(ClusterSettings.model_fields)}"
    return f"'{key}' is {found['input']!r}: {found['msg'].replace('Input', 'it')}"


def require_fitting(settings: ClusterSettings, training: Train) -> None:
    """Checks what can be checked before any stage runs: that this training can have this cluster.

    Raises:
      PipelineError: Its noise is secret, its clients keep files and there is no shared folder, or the driver's
        certificate is not there.
    """
    if training.has_secret_noise:
        raise PipelineError(
            "params.yaml: 'train.privacy.noise' is secret, and a secret does not travel to a cluster's workers: train "
            f"on this machine alone (unset {ADDRESS}), or set it to seeded"
        )
    keeping = _keeps_files(training)
    if keeping and (settings.shared_folder is None or not settings.shared_folder.is_dir()):
        there = "" if settings.shared_folder is None else f"; {settings.shared_folder} is no folder here"
        raise PipelineError(
            f"params.yaml: {keeping} keeps a file per client, for all workers{there}: put the project into a folder "
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


def opened(settings: ClusterSettings | None, training: Train, data: str) -> "AbstractContextManager[Cluster | None]":
    """The cluster for a training on the shards with the digest ``data``; nothing for this machine alone.

    Raises:
      PipelineError: The scheduler does not let us in.
    """
    if settings is None:
        return nullcontext()
    from fedpipe.cluster.cluster import Cluster

    return Cluster(settings, training, data)


def require_dask() -> None:
    """Raises PipelineError if Dask is not installed."""
    if find_spec("distributed") is None:
        raise PipelineError(
            "the package distributed is not installed: run `make cluster-env`, or unset FEDPIPE_CLUSTER"
        )
