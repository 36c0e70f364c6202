"""MLflow's own login (its app ``basic-auth``): users with passwords, and what each may do.

server/login/
  admin-password     of the user ``admin``, drawn at the first start
  secret-key         signs the form of the sign-up page
  users.db           users and permissions
  basic_auth.ini     MLflow's settings, written at each start
"""

import secrets
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from fedpipe.atomic import write_text
from fedpipe.errors import PipelineError

ADMIN = "admin"
PASSWORD_FILE = "admin-password"
PERMISSIONS = ("NO_PERMISSIONS", "READ", "USE", "EDIT", "MANAGE")  # those that users may have by default
DEFAULT_PERMISSION = "READ"
_APP = ["--app-name", "basic-auth"]
_SETTINGS = """\
[mlflow]
default_permission = {permission}
database_uri = sqlite:///{database}
admin_username = {admin}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""


def login_folder(folder: Path) -> Path:
    """Where the server in ``folder`` has its users."""
    return folder / "login"


def prepare(folder: Path, permission: str) -> tuple[list[str], dict[str, str]]:
    """Makes the files of a login, at the first start with a password for the administrator.

    The umask has to keep other users out.

    Args:
      folder: The server's.
      permission: What each user may do to what nobody gave or denied them: one of `PERMISSIONS`.

    Returns:
      Options for ``mlflow server``, and variables for its environment.

    Raises:
      PipelineError: The package that MLflow needs for it is not installed.
    """
    if find_spec("flask_wtf") is None:
        raise PipelineError("--login needs the package Flask-WTF, which is not in this environment: run `make env`")
    login = login_folder(folder)
    login.mkdir(exist_ok=True)
    login.chmod(0o700)
    database = str((login / "users.db").absolute()).replace("%", "%25").replace("?", "%3F")
    settings = _SETTINGS.format(permission=permission, admin=ADMIN, database=database.replace("%", "%%"))
    write_text(login / "basic_auth.ini", settings)
    return _APP, {
        "MLFLOW_AUTH_CONFIG_PATH": str((login / "basic_auth.ini").absolute()),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": kept_secret(login / "secret-key"),
        # For the first start; MLflow ignores it once there is an administrator.
        "MLFLOW_AUTH_ADMIN_PASSWORD": kept_secret(login / PASSWORD_FILE),
        "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN,
    }


def require_login(folder: Path) -> None:
    """Keeps a server that has users from being started without its login, which would open it to everybody.

    Raises:
      PipelineError: It has users.
    """
    login = login_folder(folder)
    if login.exists():
        raise PipelineError(
            f"this server has users ({login}), and without a login everybody could change their runs: start it with "
            f"--login, or remove {login} to give the login up"
        )


def new_password() -> str:
    """A password that nobody can guess: 128 bits."""
    return secrets.token_urlsafe(16)


def kept_secret(path: Path, draw: Callable[[], str] = new_password) -> str:
    """The text of a file, which is drawn when there is none."""
    if not path.exists():
        write_text(path, draw() + "\n")
    return path.read_text(encoding="utf-8").strip()
