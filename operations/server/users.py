"""``python -m operations.server.users``: the users of a tracking server with a login, and what each may do.

python -m operations.server.users add anna                    adds a user, and prints the password, once
python -m operations.server.users add anna --admin            who may also do all of this
python -m operations.server.users password anna               draws another password, and prints it
python -m operations.server.users remove anna
python -m operations.server.users grant anna runs mnist EDIT      the runs on data set mnist: log, change
python -m operations.server.users grant anna models mnist EDIT    its registered model: register, move the champion

The server is that of MLFLOW_TRACKING_URI. The administrator is MLFLOW_TRACKING_USERNAME with MLFLOW_TRACKING_PASSWORD;
without these, ``admin`` with the password in --folder.
"""

import argparse
import os
from pathlib import Path
from urllib.parse import urlsplit

import requests

import layout
from fedpipe.command_line import make_command
from fedpipe.errors import PipelineError, run_stage
from fedpipe.tracking.outbox import without_password
from fedpipe.tracking.registry import registered_model
from fedpipe.tracking.run_events import experiment
from operations.server.login import ADMIN, PASSWORD_FILE, login_folder, new_password

GRANTS = ("DENY", "READ", "USE", "EDIT", "MANAGE")  # MLflow's
_RESOURCES = {"runs": "experiment", "models": "registered_model"}
_SECONDS = 30.0
_NO_SUCH_PAGE = "status 404"  # MLflow's own answers name the missing thing


def main(arguments: list[str] | None = None) -> None:
    """Changes the users, and reports it."""
    options = _parse(arguments)
    name, password = options.name, new_password()
    _log_in(options.folder)
    if options.command == "add":
        _ask("POST", "2.0/mlflow/users/create", username=name, password=password)
        if options.admin:
            _ask("PATCH", "2.0/mlflow/users/update-admin", username=name, is_admin=True)
        print(f"{name} is a user, with the password {password}")
    elif options.command == "password":
        _ask("PATCH", "2.0/mlflow/users/update-password", username=name, password=password)
        print(f"{name} has the password {password}")
    elif options.command == "remove":
        _ask("DELETE", "2.0/mlflow/users/delete", username=name)
        print(f"{name} is no user any more")
    else:
        kind, resource = _RESOURCES[options.kind], _resource(options.kind, options.dataset)
        grant = {"username": name, "resource_type": kind, "resource_id": resource}
        _ask("POST", "3.0/mlflow/users/permissions/revoke", tolerated="RESOURCE_DOES_NOT_EXIST", **grant)
        _ask("POST", "3.0/mlflow/users/permissions/grant", permission=options.permission, **grant)
        print(f"{name} has {options.permission} on the {options.kind} of {options.dataset}")


def _ask(method: str, path: str, tolerated: str = "", **content: object) -> None:
    """One request to MLflow's REST interface of users.

    Args:
      method: HTTP's.
      path: Below ``/api``.
      tolerated: An error code of MLflow that is no error here.
      content: What MLflow gets, as JSON.

    Raises:
      PipelineError: The server cannot be reached, or refuses.
    """
    server = layout.store().rstrip("/")
    user = (os.environ.get("MLFLOW_TRACKING_USERNAME", ADMIN), os.environ["MLFLOW_TRACKING_PASSWORD"])
    try:
        answer = requests.request(
            method, f"{server}/api/{path}", json=content, auth=user, timeout=_SECONDS, allow_redirects=False
        )
    except requests.RequestException as error:
        raise PipelineError(f"{without_password(server)} cannot be reached: {type(error).__name__}") from None
    if not answer.ok and not (tolerated and tolerated in answer.text):
        reason = _message(answer)
        if answer.status_code in (401, 403):
            reason = f"{user[0]} is no administrator of it, or the password is another one"
        elif reason == _NO_SUCH_PAGE:
            reason = "it has no login: start it with `make server ARGS=--login`"
        raise PipelineError(f"{without_password(server)}: {reason}")


def _message(answer: requests.Response) -> str:
    """What MLflow says is wrong, without the database's words."""
    try:
        return str(answer.json()["message"]).partition(" Error: ")[0]
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"


def _resource(kind: str, dataset: str) -> str:
    """MLflow's id of the runs or the registered model of a data set."""
    if kind == "models":
        return registered_model(dataset)
    with layout.registry().readable_errors():
        known = layout.registry().client().get_experiment_by_name(experiment(dataset))
    if known is None:
        raise PipelineError(
            f"{layout.outbox().shown_store} has no runs on {dataset} yet: log one first, as the user who is to manage "
            "them (`make repro`, or `make sync`)"
        )
    return str(known.experiment_id)


def _log_in(folder: Path) -> None:
    """Puts the administrator's name and password where MLflow's client looks for them.

    Raises:
      PipelineError: No server is named, or no password is known.
    """
    if urlsplit(layout.store()).scheme not in ("http", "https"):
        raise PipelineError("MLFLOW_TRACKING_URI should name the server whose users are meant: http://127.0.0.1:5000")
    if os.environ.get("MLFLOW_TRACKING_PASSWORD"):
        return
    password = login_folder(folder) / PASSWORD_FILE
    try:
        text = password.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise PipelineError(
            f"no administrator is known: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or name the "
            f"server's folder with --folder ({password}: {error.strerror})"
        ) from None
    os.environ |= {"MLFLOW_TRACKING_USERNAME": ADMIN, "MLFLOW_TRACKING_PASSWORD": text}


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, **make_command("users"))
    parser.add_argument("--folder", type=Path, default=Path("server"), help="the server's folder (server)")
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("add", "password", "remove", "grant"):
        commands.add_parser(command, **make_command(f"users {command}")).add_argument("name")
    commands.choices["add"].add_argument("--admin", action="store_true", help="may add and remove users, too")
    commands.choices["grant"].add_argument("kind", choices=list(_RESOURCES))
    commands.choices["grant"].add_argument("dataset")
    commands.choices["grant"].add_argument("permission", choices=GRANTS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_stage(main)
