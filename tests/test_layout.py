"""The project's paths are in layout.py, and the library knows none of them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import layout
from tests import ROOT

PATHS = [value for value in vars(layout).values() if isinstance(value, Path)] + list(layout.WRITTEN)
NAMES = {str(path) for path in PATHS} | {path.name for path in PATHS if path.suffix}
FOLDERS = {path.parts[0] for path in PATHS if len(path.parts) > 1}
# What looks like one of them and is none of this project's.
NO_PATHS = {
    ("fedpipe/dvc_lock.py", "params.yaml"): "a key of dvc.lock, which DVC gives it",
    ("fedpipe/tracking/writer.py", "params.yaml"): "an artifact of a run in MLflow",
    ("fedpipe/cluster/settings.py", "certificates"): "what a key of the user's cluster.yaml is by default",
    ("fedpipe/pinning.py", "/proc/cpuinfo"): "Linux's",
    ("fedpipe/provenance.py", "/proc/cpuinfo"): "Linux's",
    ("fedpipe/enclosure/namespace.py", "/proc/self"): "Linux's",
}


def docstrings(tree: ast.Module) -> set[int]:
    """The ids of the nodes that hold docstrings."""
    owners = [node for node in ast.walk(tree) if hasattr(node, "body") and isinstance(node.body, list) and node.body]
    return {id(node.body[0].value) for node in owners if isinstance(node.body[0], ast.Expr)}


def texts(source: str) -> Iterator[str]:
    """Texts of a module that are a path of the project, or are made a path."""
    tree = ast.parse(source)
    skipped = docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            folder, slash, _ = node.value.partition("/")
            if node.value in NAMES - FOLDERS or (slash and folder in FOLDERS and " " not in node.value):
                yield node.value
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Path", "open") and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value


def test_the_library_has_no_path_of_the_project() -> None:
    actual = {
        (str(file.relative_to(ROOT)), text)
        for file in (ROOT / "fedpipe").rglob("*.py")
        for text in texts(file.read_text(encoding="utf-8"))
    }
    assert actual == set(NO_PATHS)


@pytest.mark.parametrize(
    "source", ['Path("logs/train")', 'open("x")', 'f"models/{name}.safetensors"', 'POINTER = "data/pool/ledger.csv"']
)
def test_such_a_path_is_seen(source: str) -> None:
    assert list(texts(source))
    assert not list(texts('"""In data/pool."""\n"the metrics/rounds.csv of a run"\n{"metrics": 1}'))


@pytest.mark.parametrize(
    ("root", "here", "theirs"),
    [
        ("project", "project", False),  # a stage of `dvc repro`, or of an experiment in the workspace
        ("project", "project/.dvc/tmp/exps/tmpab", True),
        ("project", "project/.dvc/tmp/exps/standalone/tmpab/below", True),
        ("project", "other", False),  # a child of some stage that works elsewhere, as tests do
        ("", "project/.dvc/tmp/exps/tmpab", False),
    ],
)
def test_the_project_of_a_temporary_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str, here: str, theirs: bool
) -> None:
    folder = tmp_path / here
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / root) if root else "")
    home = tmp_path / root if theirs else folder
    assert layout.store() == f"sqlite:///{home / 'mlflow.db'}"
    assert layout.outbox().folder.absolute() == home / "logs/tracking/pending"
