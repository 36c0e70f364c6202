"""A PostgreSQL of the project's own: a cluster in a folder, for as long as the with block lasts.

Nobody else on the machine gets in: it listens on no port, only on a Unix socket in a folder that is closed to
others, and asks the kernel who is there (peer authentication), so there is no password to keep. PostgreSQL refuses
to run as root; then it runs as the system user ``postgres``.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from fedpipe.atomic import atomic_folder
from fedpipe.errors import PipelineError
from fedpipe.system.children import Child, start_child
from fedpipe.system.launch import ending_with_us

DATABASE = "mlflow"
DRIVER = "postgresql+psycopg2://"  # named, since SQLAlchemy's default has become another driver
_UNPRIVILEGED = "postgres"  # who runs it for root; the system's package makes this user
_START_SECONDS = 60.0  # after a crash it first replays its log
_STOP_SECONDS = 30.0
_PACKAGE = "the system's package `postgresql` (Debian, Ubuntu: apt-get install postgresql)"


@contextmanager
def running_cluster(data: Path, log: Path) -> Iterator[str]:
    """Starts PostgreSQL on the cluster in ``data``, which is made when there is none, and stops it with the block.

    It ends cleanly with this process too, whatever happens to that.

    Yields:
      The database's address for SQLAlchemy: ``postgresql+psycopg2://user@/mlflow?host=/folder/of/the/socket``.

    Raises:
      PipelineError: There is no PostgreSQL, or not the cluster's major version; or it does not start.
    """
    binaries, user = _binaries(data), _server_user()
    _refuse_if_out_of_reach(data, user)
    if not data.exists():
        print(f"server: making a PostgreSQL cluster in {data}", flush=True)
        _create(data, binaries / "initdb", user)
    _wait_for_predecessor(data)
    socket_folder = Path(tempfile.mkdtemp(prefix="fedpipe-postgres-"))
    _give(socket_folder, user)
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(socket_folder),
        "unix_socket_permissions": "0700",
    }
    command = [str(binaries / "postgres"), "-D", str(data.absolute())]
    command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    # SIGINT is its fast shutdown, with nothing to replay; this folder may be closed to the user that it runs as.
    process = start_child(command, log, last=signal.SIGINT, user=user, folder=Path("/"))
    try:
        _make_database(socket_folder, process, log)
        yield f"{DRIVER}{_current_user()}@/{DATABASE}?host={socket_folder}"
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)  # at once; the next start replays the log
            process.wait()
        shutil.rmtree(socket_folder, ignore_errors=True)


def _binaries(data: Path) -> Path:
    """The folder with initdb and postgres: those of the cluster's major version, or the newest for a new cluster."""
    installed = find_installed()
    if not installed:
        raise PipelineError(
            f"no PostgreSQL found (no initdb and postgres on the PATH or in /usr/lib/postgresql): install {_PACKAGE}, "
            "or name an existing one with --database postgresql://user@host/database"
        )
    if not data.exists():
        return installed[max(installed)]
    try:
        wanted = int((data / "PG_VERSION").read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        raise PipelineError(f"{data} is not a PostgreSQL cluster (it has no PG_VERSION): remove it") from None
    if wanted not in installed:
        versions = ", ".join(f"{major} in {folder}" for major, folder in sorted(installed.items()))
        raise PipelineError(
            f"{data} was made by PostgreSQL {wanted}, but this machine has {versions}: install PostgreSQL {wanted}, or "
            "take the data over with pg_upgrade"
        )
    return installed[wanted]


def find_installed() -> dict[int, Path]:
    """The PostgreSQL versions that this machine has: folder of the binaries by major version, PATH's before others."""
    on_path = [Path(folder) for folder in os.get_exec_path()]
    installed: dict[int, Path] = {}
    for folder in [
        *on_path,
        *sorted(Path("/usr/lib/postgresql").glob("*/bin")),
        *sorted(Path("/usr").glob("pgsql-*/bin")),
    ]:
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            version = subprocess.run(
                [folder / "postgres", "--version"], capture_output=True, text=True, check=False
            ).stdout
            major = version.partition(" (PostgreSQL) ")[2].partition(".")[0]  # postgres (PostgreSQL) 15.18 (Debian ...)
            if major.isdigit():
                installed.setdefault(int(major), folder)
    return installed


def _server_user() -> str:
    """Who runs PostgreSQL: empty for this process's own user."""
    if os.geteuid() != 0:
        return ""
    try:
        return pwd.getpwnam(_UNPRIVILEGED).pw_name
    except KeyError:
        raise PipelineError(
            f"PostgreSQL refuses to run as root, and there is no system user '{_UNPRIVILEGED}' to run it as: install "
            f"{_PACKAGE}, or run this as another user"
        ) from None


def _current_user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise PipelineError(
            f"the system has no name for user id {os.geteuid()}, which PostgreSQL needs: run this as a user that "
            "/etc/passwd has"
        ) from None


def _give(folder: Path, user: str) -> None:
    """Makes ``folder`` the user's; only root gives, and only root needs to."""
    if user:
        shutil.chown(folder, user, pwd.getpwnam(user).pw_gid)


def _refuse_if_out_of_reach(data: Path, user: str) -> None:
    """Another user can use the cluster only if every folder on the way to it lets others through."""
    closed = [folder for folder in data.absolute().parents if user and not folder.stat().st_mode & 0o001]
    if closed:
        raise PipelineError(
            f"PostgreSQL runs as the system user '{user}' here, who cannot enter {closed[-1]}: choose another place "
            "with --folder (such as /var/lib/fedpipe), or do not run this as root"
        )


def _create(data: Path, initdb: Path, user: str) -> None:
    with atomic_folder(data) as partial:
        partial.chmod(0o700)
        _give(partial, user)
        options = ["--encoding=UTF8", "--locale=C", "--auth-local=peer", "--auth-host=reject", "--no-instructions"]
        command = [str(initdb), "-D", str(partial.absolute()), f"--username={_current_user()}", *options]
        made = subprocess.run(
            ending_with_us(command, signal.SIGTERM, user), cwd="/", capture_output=True, text=True, check=False
        )
        if made.returncode:
            raise PipelineError(f"initdb could not make a cluster in {data}: {_last_line(made.stderr)}")


def _wait_for_predecessor(data: Path) -> None:
    """Lets a PostgreSQL end whose parent was killed, and removes a dead one's pid file.

    PostgreSQL removes it too, unless the number is another process's by now, as is common in containers.
    """
    pid_file = data / "postmaster.pid"
    deadline = time.monotonic() + _STOP_SECONDS
    while pid_file.exists():
        pid = int(pid_file.read_text(encoding="utf-8").partition("\n")[0])
        if not _is_postmaster(pid, data):
            pid_file.unlink(missing_ok=True)
        elif time.monotonic() > deadline:
            raise PipelineError(f"another PostgreSQL (process {pid}) uses {data}: stop it first")
        else:
            time.sleep(0.1)


def _is_postmaster(pid: int, data: Path) -> bool:
    try:
        return Path(psutil.Process(pid).cwd()) == data.resolve()
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # denied: another user's, so not on our cluster
        return False


def _make_database(socket_folder: Path, process: Child, log: Path) -> None:
    """Waits until PostgreSQL takes connections, and makes MLflow's database if it is not there."""
    import psycopg2  # type: ignore[import-untyped]

    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            connection = psycopg2.connect(host=str(socket_folder), dbname="postgres", user=_current_user())
            break
        except psycopg2.OperationalError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                reason = _last_line(log.read_text(encoding="utf-8", errors="replace")) or str(error).strip()
                raise PipelineError(f"PostgreSQL did not start: {reason}; its log is {log}") from None
            time.sleep(0.1)
    connection.autocommit = True  # a database is not made in a transaction
    with connection.cursor() as cursor:
        cursor.execute("select 1 from pg_database where datname = %s", [DATABASE])
        if not cursor.fetchone():
            cursor.execute(f"create database {DATABASE}")
    connection.close()


def _last_line(text: str) -> str:
    """The last line with an error, or the last of all."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    wrong = [line for line in lines if "FATAL" in line or "error" in line.lower()]
    return (wrong or lines or [""])[-1]
