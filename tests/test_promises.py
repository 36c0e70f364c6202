"""The README and the pages of docs: what they name exists, is listed, and has the right number."""

import ast
import re

import pytest

from fedpipe.config import read_yaml
from fedpipe.contracts.partition import PARTITIONERS
from tests import ROOT

PROMISES = (ROOT / "docs/promises.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
PARAMS = (ROOT / "docs/params.md").read_text(encoding="utf-8")


PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


def test_every_named_test_exists() -> None:
    missing = []
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
    for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text):
        file = ROOT / path
        tree = ast.parse(file.read_text(encoding="utf-8")) if file.is_file() else ast.parse("")
        if name not in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}:
            missing.append(f"{path}::{name}")
    assert not missing


def marked(path: str, name: str) -> str:
    """Whether a test is slow, or partly slow, or neither."""
    body = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    (test,) = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == name]
    values: dict[str, ast.AST] = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
    values |= {ast.unparse(node.targets[0]): node.value for node in body if isinstance(node, ast.Assign)}
    names = [each.id for mark in test.decorator_list for each in ast.walk(mark) if isinstance(each, ast.Name)]
    # Cases may have a name in the module: of a list, or of a function that makes them.
    marks = [ast.unparse(each) for each in [*test.decorator_list, *(values[each] for each in names if each in values)]]
    everything = any(
        isinstance(node, ast.Assign) and "pytestmark = pytest.mark.slow" in ast.unparse(node) for node in body
    )
    if everything or "pytest.mark.slow" in marks:
        return "slow"
    return "partly slow" if any("pytest.mark.slow" in mark for mark in marks) else ""


def test_slow_promises_are_said_to_be_slow() -> None:
    wrong = []
    for promise, tests in re.findall(r"^\| (.*?) \| (`tests/.*) \|$", PROMISES, re.MULTILINE):
        marks = [marked(path, name) for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", tests)]
        expected = "slow" if set(marks) == {"slow"} else "partly slow" if any(marks) else ""
        marking = re.search(r"\(\*(.*slow)\*\)$", promise)
        if marks and (marking[1] if marking else "") != expected:
            wrong.append((promise, expected))
    assert not wrong


def test_every_promise_has_a_test() -> None:
    rows = [line for line in PROMISES.splitlines() if line.startswith("| ") and "---" not in line]
    promises = [line for line in rows if line != "| promise | test |"]
    assert len(promises) > 40 and all("`tests/" in line.split(" | ")[-1] for line in promises)


@pytest.mark.parametrize("page", PAGES)
def test_every_path_in_backticks_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"`((?:stages|fedpipe|operations|tests|benchmarks|docs)/[\w./-]*)`", text)
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    folder = (ROOT / page).parent
    examples = set(re.findall(r"`([\w/.]+)`:$", text, re.MULTILINE))  # files that docs/extending.md shows whole
    missing = [path for path in named if path not in examples and not (ROOT / path).exists()]
    assert not missing + [path for path in links if not (folder / path).exists()]


def test_the_promises_have_the_right_number_of_schemes() -> None:
    assert f"{len(PARTITIONERS.names)} schemes" in PROMISES


@pytest.mark.parametrize(
    "folder",
    [
        "algorithms",
        "aggregators",
        "attacks",
        "compressors",
        "cohorts",
        "losses",
        "models",
        "partitioners",
        "quantities",
    ],
)
def test_the_page_of_params_names_every_choice(folder: str) -> None:
    files = [path.stem for path in (ROOT / "fedpipe" / folder).glob("*.py") if not path.name.startswith("_")]
    assert files and not [name for name in files if f"`{name}`" not in PARAMS]


def test_every_section_of_params_is_on_the_page_of_params() -> None:
    sections = read_yaml(ROOT / "tests/recipe/params.yaml")
    assert not [section for section in sections if f"`{section}" not in PARAMS]


def test_the_readme_is_short_and_says_how_to_begin_and_how_to_go_back() -> None:
    begin = README.partition("## What comes out")[0]
    assert "git clone " in begin and "3.7 GB" in begin and "sandbox without network access" in begin.replace("\n", " ")
    assert "`dvc checkout` computes nothing" in README
    assert len(README.split()) <= 900


def test_the_index_links_every_page() -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert not [page for page in sorted(pages) if f"]({page})" not in index]
