"""The connection to MLflow: its settings, a client, and its errors as sentences.

MLflow is imported where it is needed, and never in a process that trains.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from fedpipe.errors import PipelineError
from fedpipe.tracking.delivery import Unreachable
from fedpipe.tracking.outbox import without_password
from fedpipe.tracking.relocation import follow_folder
from fedpipe.tracking.sqlite_store import explained, file_of, opened_exclusively

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Two runs that log the same data set at the same moment, in SQLite's words and in PostgreSQL's.
_COLLISIONS = ("IntegrityError", "UniqueViolation")
_TRANSIENT = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED"}


def connect(store: str) -> "MlflowClient":
    """A client of the store at this address and of its model registry; to be used within `translated`."""
    configure()
    from mlflow import MlflowClient

    # It would print pages of tracebacks for what `translated` says in a sentence.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    path = file_of(store)
    with opened_exclusively(path) if path else nullcontext():
        if path and path.exists():
            follow_folder(path)
        return MlflowClient(store, registry_uri=store)


def configure() -> None:
    """Sets MLflow's switches, before it is imported."""
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_UV_AUTO_DETECT": "false"}
    quiet = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    os.environ |= quiet | {"MLFLOW_LOGGING_LEVEL": "WARNING"}
    # A try is short and not repeated here, since a journal is patient and tries again.
    os.environ |= {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}


@contextmanager
def translated() -> Iterator[None]:
    """Turns errors of MLflow and below into `Unreachable`, if trying again may help, else into PipelineError."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except MlflowException as error:
        if error.error_code in _TRANSIENT or any(collision in str(error) for collision in _COLLISIONS):
            raise _unreachable(error) from error
        raise PipelineError(_reason(error)) from error
    except (RequestException, SQLAlchemyError, OSError) as error:
        raise _unreachable(error) from error


def _unreachable(error: BaseException) -> Unreachable:
    return explained(str(error)) or Unreachable(_reason(error))


def _reason(error: BaseException) -> str:
    """The innermost cause if it is the system's (connection refused, no space left), else the first line.

    MLflow's own words may hold the server's address, password and all.
    """
    cause = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return without_password(str(error).partition("\n")[0])[:200] or type(error).__name__
