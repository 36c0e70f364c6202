"""``python -m operations.server``: MLflow's tracking server on PostgreSQL, with an artifact store of its own.

    server/
      postgres/      the database (postgres.py), unless --database names another
      artifacts/     models and pictures; clients send and fetch them through the server and need no access to files
      login/         users and passwords, with --login (login.py)
      *.log

Runs until Ctrl-C or SIGTERM, and leaves no process behind even after ``kill -9``. Without --login it has no passwords:
whoever reaches its port may read, write and delete. So it listens on loopback unless another address is named.
"""

import argparse
import os
import re
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedpipe.command_line import make_command
from fedpipe.errors import PipelineError, run_stage
from fedpipe.system.children import Child, end_child, start_child
from fedpipe.system.locks import try_lock
from fedpipe.tracking.connection import configure
from operations.ports import LOOPBACK, SERVER_PORT, port_number, require_free
from operations.server.login import (
    ADMIN,
    DEFAULT_PERMISSION,
    PASSWORD_FILE,
    PERMISSIONS,
    kept_secret,
    login_folder,
    prepare,
    require_login,
)
from operations.server.postgres import DRIVER, running_cluster

_START_SECONDS = 120.0  # the first start makes the tables
_STOP_SECONDS = 10.0


def main() -> None:
    """Runs the server until a signal ends it."""
    parser = argparse.ArgumentParser(description=__doc__, **make_command("server"))
    parser.add_argument("--port", type=port_number, default=SERVER_PORT, help=f"port to listen on ({SERVER_PORT})")
    parser.add_argument("--host", default=LOOPBACK, help="address to listen on; passwords travel in clear without TLS")
    parser.add_argument("--folder", type=Path, default=Path("server"), help="where database and artifacts are kept")
    parser.add_argument(
        "--database", help="an existing database, postgresql://user@host/name, to use instead of a cluster in --folder"
    )
    parser.add_argument(
        "--login", action="store_true", help="users log in; `python -m operations.server.users` adds them"
    )
    parser.add_argument(
        "--default-permission",
        choices=PERMISSIONS,
        default=DEFAULT_PERMISSION,
        help=f"with --login: what users may do where nothing was granted ({DEFAULT_PERMISSION})",
    )
    options = parser.parse_args()
    permission = options.default_permission if options.login else None
    serve(options.host, options.port, options.folder, options.database, permission)


def serve(host: str, port: int, folder: Path, database: str | None, permission: str | None) -> None:
    """Runs the server until a signal ends it.

    Args:
      host: Address to listen on.
      port: TCP port.
      folder: Where database, artifacts and users are kept.
      database: Address of an existing database; None for one in the folder.
      permission: With a login, what its users may do where nothing was granted; None for a server without a login.

    Raises:
      PipelineError: The folder is in use or cannot be written, the port is taken, or database or server do not start.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    os.umask(0o077)
    with _held(folder):
        require_free(host, port)
        login = _login(folder, permission)
        store = _existing(database) if database else running_cluster(folder / "postgres", folder / "postgres.log")
        with store as address, _running_mlflow(host, port, folder, address, login) as server:
            shown = LOOPBACK if host == "0.0.0.0" else host
            print(f"server: MLflow on PostgreSQL at http://{shown}:{port}, kept in {folder} (Ctrl-C ends it)")
            if permission:
                print(f"server: users log in; the password of '{ADMIN}' is in {login_folder(folder) / PASSWORD_FILE}")
            print(f"server: clients say `export MLFLOW_TRACKING_URI=http://{shown}:{port}`", flush=True)
            code = server.wait()
            raise PipelineError(f"MLflow's server ended (exit code {code}); its log is {folder / 'mlflow.log'}")


def _login(folder: Path, permission: str | None) -> list[str]:
    """Options of ``mlflow server`` for a login, whose variables are set; none without one."""
    if permission is None:
        require_login(folder)
        return []
    options, environment = prepare(folder, permission)
    os.environ |= environment
    return options


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Makes the folder, and keeps a second server out of it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o711)  # root's PostgreSQL runs as another user and has to pass; nobody can list it
        (folder / "artifacts").mkdir(exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise PipelineError(
            f"the server's folder {folder} cannot be written ({error.strerror}): choose another with --folder"
        ) from None
    with lock:
        if not try_lock(lock):
            raise PipelineError(f"another server runs in {folder}: use that, or choose another folder with --folder")
        yield


@contextmanager
def _existing(database: str) -> Iterator[str]:
    """The address of an external database for SQLAlchemy.

    Connects once, since MLflow would say what is wrong in a hundred lines.
    """
    import psycopg2  # type: ignore[import-untyped]

    plain = re.sub(r"^(postgresql|postgres)(\+psycopg2)?://", "postgresql://", database)
    if not plain.startswith("postgresql://"):
        raise PipelineError(f"--database should be postgresql://user@host/name, not {_without_password(database)!r}")
    try:
        psycopg2.connect(plain, connect_timeout=10).close()
    except psycopg2.Error as error:
        reason = " ".join(str(error).split())
        raise PipelineError(f"{_without_password(database)} cannot be used: {reason}") from None
    yield plain.replace("postgresql://", DRIVER, 1)


def _without_password(database: str) -> str:
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1@", database)


def _fernet_key() -> str:
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()


@contextmanager
def _running_mlflow(host: str, port: int, folder: Path, database: str, login: list[str]) -> Iterator[Child]:
    """MLflow's server from when it answers to the end of the block."""
    configure()
    # In the environment, which other users of the machine cannot read, unlike a command line.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = database
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # twenty processes for what this project does not use
    # Without it, MLflow draws another key at each start, and the secrets of its webhooks are lost.
    os.environ.setdefault("MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY", kept_secret(folder / "webhook-key", _fernet_key))
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    command += ["--serve-artifacts", "--artifacts-destination", (folder / "artifacts").absolute().as_uri()]
    command += login
    process = start_child(command, folder / "mlflow.log", last=signal.SIGTERM)  # which it hands on to its own child
    try:
        _wait_until_it_answers(process, host, port, folder / "mlflow.log")
        yield process
    finally:
        end_child(process, _STOP_SECONDS)


def _wait_until_it_answers(process: Child, host: str, port: int, log: Path) -> None:
    address = f"http://{LOOPBACK if host == '0.0.0.0' else host}:{port}/health"
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise PipelineError(f"MLflow's server did not start; its log is {log}") from None
            time.sleep(0.2)


if __name__ == "__main__":
    run_stage(main)
