"""What a stage imports is what DVC watches for it: a change of code that decides bits makes the stage run again."""

import ast
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests import ROOT

# Modules that decide no bits of what a stage writes to its outputs, by the name of the module or its package.
DECIDE_NO_BITS = {
    "fedpipe.atomic": "where files are until they are whole",
    "fedpipe.command_line": "refuses arguments",
    "fedpipe.errors": "the text of refusals",
    "fedpipe.config": "checks values that are `params` of the stage; what else they decide is a dep of its own",
    "fedpipe.provenance": "what a run says of its environment",
    "fedpipe.tracking": "what MLflow is told, after the outputs",
}
STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def source(module: str) -> Path | None:
    """The file of a module or package of this project; None for no module, and for a package without code."""
    path = Path(*module.split("."))
    found = next((file for file in (path.with_suffix(".py"), path / "__init__.py") if (ROOT / file).is_file()), None)
    return found if found and len(ast.parse((ROOT / found).read_text(encoding="utf-8")).body) > 1 else None


def imports(file: Path) -> set[str]:
    """The names of this project that a file imports, at its top or in a function."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.split(".")[0] in ("fedpipe", "stages") and source(name)}


def reached(module: str, found: set[str]) -> set[str]:
    """``module`` and all modules that it imports, they import, and so on, less those that decide no bits."""
    if module in found or any(f"{module}.".startswith(f"{name}.") for name in DECIDE_NO_BITS):
        return found
    found.add(module)
    file = source(module)
    if file is None:
        return found
    for name in sorted(imports(file)):
        reached(name, found)
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_deps_hold_what_the_stage_imports(stage: str) -> None:
    deps = {Path(dep) for dep in STAGES[stage]["deps"]}
    files = {file for module in reached(f"stages.{stage}", set()) if (file := source(module))}
    unwatched = {str(file) for file in files if not deps & {file, *file.parents}}
    assert not unwatched


@pytest.mark.parametrize("stage", STAGES)
def test_deps_hold_no_code_that_is_not_imported(stage: str) -> None:
    """Else a stage runs again for nothing."""
    files = {file for module in reached(f"stages.{stage}", set()) if (file := source(module))}
    started = {Path("stages/__init__.py"), Path("fedpipe/pinning.py")}  # whatever is imported
    code = {
        Path(dep) for dep in STAGES[stage]["deps"] if dep.endswith(".py") or (ROOT / dep / "__init__.py").is_file()
    } - started
    unused = {str(dep) for dep in code if not any(dep in {file, *file.parents} for file in files)}
    assert unused <= {"fedpipe/config/partition.py", "fedpipe/config/schemes.py"}
