"""Names in code say what they hold: the words that hold nothing are counted to zero."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT

EMPTY = {"found", "there", "one", "given", "said", "asked", "told"}
PLACES = ["benchmarks", "fedpipe", "operations", "stages", "tests", "layout.py"]


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


@pytest.mark.parametrize("place", PLACES)
def test_a_name_says_what_it_holds(place: str) -> None:
    named = [f"{file.relative_to(ROOT)}:{name}" for file in files(place) for name in empty_names(file.read_text())]
    assert not named, "name the content"


@pytest.mark.parametrize("place", PLACES)
def test_a_function_has_a_verb_of_one_meaning(place: str) -> None:
    functions = [
        f"{file.relative_to(ROOT)}:{node.lineno}: {node.name}"
        for file in files(place)
        if not f"{file.relative_to(ROOT)}".startswith(CONTRACTS)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.strip("_") in VAGUE
    ]
    assert not functions, "say validate, require, sample or plot"


def test_every_listed_place_has_files() -> None:
    assert not [place for place in PLACES if not files(place)]


@pytest.mark.parametrize(
    "source",
    ["found = 1", "for one in many: pass", "def f(given): pass", "def _given(): pass", "with x as said: pass"],
)
def test_such_a_name_is_seen(source: str) -> None:
    assert list(empty_names(source))
    assert not list(empty_names("with registry.found() as client: client.found = one(given)"))
