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
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import layout
from fedpipe.errors import PipelineError, run_stage
from fedpipe.tracking.registry import registered_model
from fedpipe.tracking.run_events import experiment
from operations.server.login import ADMIN, PASSWORD_FILE, PERMISSIONS, login_folder, new_password

if TYPE_CHECKING:
    from mlflow.server.auth.client import AuthServiceClient

_RESOURCES = {"runs": "experiment", "models": "registered_model"}


def main(arguments: list[str] | None = None) -> None:
    """Changes the users as asked, and says what was done."""
    options = _parse(arguments)
    _log_in(options.folder)
    with layout.registry().asked():
        from mlflow.server import get_app_client

        client: AuthServiceClient = get_app_client("basic-auth", tracking_uri=layout.store())
        print(_carry_out(client, options))


def _carry_out(client: "AuthServiceClient", options: argparse.Namespace) -> str:
    name = options.name
    if options.command == "add":
        password = new_password()
        client.create_user(name, password)
        if options.admin:
            client.update_user_admin(name, True)
        return f"{name} is a user, with the password {password}"
    if options.command == "password":
        password = new_password()
        client.update_user_password(name, password)
        return f"{name} has the password {password}"
    if options.command == "remove":
        client.delete_user(name)
        return f"{name} is no user any more"
    kind = _RESOURCES[options.kind]
    client.grant_user_permission(name, kind, _resource(options.kind, options.dataset), options.permission)
    return f"{name} has {options.permission} on the {options.kind} of {options.dataset}"


def _resource(kind: str, dataset: str) -> str:
    """MLflow's id of the runs or the registered model of a data set."""
    if kind == "models":
        return registered_model(dataset)
    found = layout.registry().client().get_experiment_by_name(experiment(dataset))
    if found is None:
        raise PipelineError(
            f"{layout.outbox().shown_store} has no runs on {dataset} yet: log one first, as the user who is to manage "
            "them (`make repro`, or `make sync`)"
        )
    return str(found.experiment_id)


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("server"), help="the server's folder (server)")
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("add", "password", "remove", "grant"):
        commands.add_parser(command).add_argument("name")
    commands.choices["add"].add_argument("--admin", action="store_true", help="may add and remove users, too")
    commands.choices["grant"].add_argument("kind", choices=list(_RESOURCES))
    commands.choices["grant"].add_argument("dataset")
    commands.choices["grant"].add_argument("permission", choices=PERMISSIONS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_stage(main)
