"""Names in code say what they hold: the words that hold nothing are counted to zero, folder by folder."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT

EMPTY = {"found", "there", "one", "given", "said", "asked", "told"}
# The library, the operations and the stages, and the tests that are done.
TESTS_OF_LIBRARY = [
    *("aggregators", "algorithms", "attacks", "cluster", "cohorts", "compressors", "contracts"),
    *("enclosure", "partitioners", "partitioning", "privacy", "quantities", "system", "test_pinning.py"),
]
TESTS_OF_OPERATIONS = [
    *("audit", "champion", "incoming", "promote", "register", "resolve", "retrain", "server", "table", "tell"),
    *("combinations.py", "test_check_params.py", "test_choosing.py", "test_commands.py", "test_credentials.py"),
    *("test_libraries.py", "test_ui.py"),
]
DONE = [
    *("benchmarks", "fedpipe", "operations", "stages", "layout.py"),
    *(f"tests/fedpipe/{name}" for name in TESTS_OF_LIBRARY),
    *(f"tests/operations/{name}" for name in TESTS_OF_OPERATIONS),
]


def files(place: str) -> list[Path]:
    path = ROOT / place
    return sorted(path.rglob("*.py")) if path.is_dir() else [path] if path.is_file() else []


def empty_names(source: str) -> Iterator[str]:
    """Names that a module gives: to locals, arguments, functions and classes."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            name = node.id
        elif isinstance(node, ast.arg):
            name = node.arg
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            name = node.name
        else:
            continue
        if name.strip("_") in EMPTY:
            yield f"{node.lineno}: {name}"


# Verbs that mean several things: validate and require (check), sample and plot (draw).
VAGUE = {"check", "draw"}
CONTRACTS = (
    "fedpipe/aggregators/",
    "fedpipe/algorithms/",
    "fedpipe/attacks/",
    "fedpipe/cohorts/",
)  # names that every file of choices has (docs/extending.md)


@pytest.mark.parametrize("place", DONE)
def test_a_name_says_what_it_holds(place: str) -> None:
    named = [f"{file.relative_to(ROOT)}:{name}" for file in files(place) for name in empty_names(file.read_text())]
    assert not named, "name the content"


@pytest.mark.parametrize("place", [place for place in DONE if not place.startswith("tests/")])
def test_a_function_has_a_verb_of_one_meaning(place: str) -> None:
    functions = [
        f"{file.relative_to(ROOT)}:{node.lineno}: {node.name}"
        for file in files(place)
        if not f"{file.relative_to(ROOT)}".startswith(CONTRACTS)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.strip("_") in VAGUE
    ]
    assert not functions, "say validate, require, sample or plot"


def test_every_listed_folder_is_there() -> None:
    assert not [place for place in DONE if not files(place)]


@pytest.mark.parametrize(
    "source",
    ["found = 1", "for one in many: pass", "def f(given): pass", "def _given(): pass", "with x as said: pass"],
)
def test_such_a_name_is_seen(source: str) -> None:
    assert list(empty_names(source))
    assert not list(empty_names("with registry.asked() as client: client.found = one(given)"))
