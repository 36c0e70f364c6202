"""A server with a login: who gets in, and what each user may do, asked of MLflow itself."""

import os
import re
import signal
import stat
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fedpipe.errors import PipelineError
from operations.server import login, users
from tests.operations.server.test_server import Server, needs_postgres, open_folder  # noqa: F401

needs_flask_wtf = pytest.mark.skipif(
    login.find_spec("flask_wtf") is None, reason="no Flask-WTF here, which MLflow's login needs: `make env`"
)


def refused(action: Callable[[], object]) -> bool:
    """Whether MLflow answers that this user may not."""
    from mlflow.exceptions import MlflowException

    try:
        action()
    except MlflowException as error:
        assert "403" in str(error) or "Permission denied" in str(error), error
        return True
    return False


@pytest.fixture
def team(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:  # noqa: F811
    server = Server(open_folder / "team")
    server.start("--login")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    yield server
    if server.process.poll() is None:
        server.end(signal.SIGTERM)


@pytest.mark.slow
@needs_flask_wtf
@needs_postgres
def test_users_may_do_what_was_granted(
    team: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    for path in ("/", "/api/2.0/mlflow/experiments/get?experiment_id=0", "/api/2.0/mlflow-artifacts/artifacts"):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(team.uri + path, timeout=30)
    for file in (team.folder / "login").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def manage(*arguments: str) -> str:
        for variable in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
            monkeypatch.delenv(variable, raising=False)
        users.main(["--folder", str(team.folder), *arguments])
        return capsys.readouterr().out.split()[-1]

    passwords = {name: manage("add", name) for name in ("anna", "bob", "ci")}
    assert len(set(passwords.values())) == 3 and all(re.fullmatch(r"[\w-]{20,}", word) for word in passwords.values())

    def client(name: str) -> MlflowClient:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", passwords[name])
        return MlflowClient(team.uri, registry_uri=team.uri)

    anna = client("anna")
    experiment = anna.create_experiment("fedpipe-mnist")
    run = anna.create_run(experiment).info
    anna.create_registered_model("fedpipe-mnist")
    anna.create_model_version("fedpipe-mnist", run.artifact_uri, run.run_id, await_creation_for=0)

    bob = client("bob")
    assert bob.get_run(run.run_id).info.run_id == run.run_id
    assert refused(lambda: bob.create_run(experiment))
    assert refused(lambda: bob.set_registered_model_alias("fedpipe-mnist", "champion", "1"))
    manage("grant", "bob", "runs", "mnist", "EDIT")
    bob = client("bob")
    bob.create_run(experiment)
    assert refused(lambda: bob.delete_run(run.run_id))
    assert refused(lambda: bob.set_registered_model_alias("fedpipe-mnist", "champion", "1"))
    manage("grant", "ci", "models", "mnist", "EDIT")
    client("ci").set_registered_model_alias("fedpipe-mnist", "champion", "1")
    manage("grant", "bob", "runs", "mnist", "DENY")
    bob = client("bob")
    assert refused(lambda: bob.get_run(run.run_id))

    def sentence(*arguments: str) -> str:
        with pytest.raises(PipelineError) as error:
            manage(*arguments)
        return str(error.value)

    assert sentence("add", "bob").endswith("User (username=bob) already exists.")
    assert "not found" in sentence("remove", "nobody") and "not found" in sentence(
        "grant", "nobody", "models", "mnist", "READ"
    )
    assert "has no runs on other yet" in sentence("grant", "bob", "runs", "other", "EDIT")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bob")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", passwords["bob"])
    with pytest.raises(PipelineError, match="bob is no administrator of it, or the password is another one"):
        users.main(["add", "carl"])

    # The same users after a restart, and no start without the login.
    former = passwords["anna"]
    passwords["anna"] = manage("password", "anna")
    assert team.end(signal.SIGTERM) == 0
    team.start("--login")
    assert client("anna").get_run(run.run_id).info.run_id == run.run_id and former != passwords["anna"]
    assert team.end(signal.SIGTERM) == 0
    with pytest.raises(PipelineError, match="this server has users"):
        login.require_login(team.folder)


def test_secrets_are_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "find_spec", lambda _: True)
    before = os.umask(0o077)
    try:
        folder = tmp_path / "100%/a?b"
        folder.mkdir(parents=True)
        options, first = login.prepare(folder, "READ")
        second = login.prepare(folder, "EDIT")[1]
    finally:
        os.umask(before)
    assert first == second and options == ["--app-name", "basic-auth"]
    assert len(first["MLFLOW_AUTH_ADMIN_PASSWORD"]) > 20
    assert first["MLFLOW_AUTH_ADMIN_PASSWORD"] != first["MLFLOW_FLASK_SERVER_SECRET_KEY"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in (folder / "login").iterdir()} == {0o600}
    monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", first["MLFLOW_AUTH_CONFIG_PATH"])
    import configparser

    settings = configparser.ConfigParser()
    settings.read(first["MLFLOW_AUTH_CONFIG_PATH"])
    assert settings["mlflow"]["default_permission"] == "EDIT"
    assert settings["mlflow"]["database_uri"] == f"sqlite:///{tmp_path}/100%25/a%3Fb/login/users.db"


def test_what_is_missing_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "find_spec", lambda _: None)
    with pytest.raises(PipelineError, match=r"--login needs the package Flask-WTF, .*: run `make env`"):
        login.prepare(tmp_path, "READ")
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(PipelineError, match="MLFLOW_TRACKING_URI should name the server"):
        users.main(["add", "anna"])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(PipelineError, match="no administrator is known: set MLFLOW_TRACKING_USERNAME"):
        users.main(["--folder", str(tmp_path), "add", "anna"])
    (tmp_path / "login").mkdir()
    (tmp_path / "login/admin-password").write_text("a password\n")
    with pytest.raises(PipelineError, match=r"http://127\.0\.0\.1:9 cannot be reached: ConnectionError"):
        users.main(["--folder", str(tmp_path), "add", "anna"])
    with pytest.raises(PipelineError, match="this server has users"):
        login.require_login(tmp_path)
