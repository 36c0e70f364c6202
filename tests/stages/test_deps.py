"""What a stage imports is what DVC watches for it: a change of code that decides bits makes the stage run again."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from fedpipe.config import SECTIONS
from fedpipe.config.choices import DECIDE_NOTHING, ChoosingSection
from tests import ROOT

# Modules that decide no bits of what a stage writes to its outputs, by the name of the module or its package.
DECIDE_NO_BITS = {
    "fedpipe.atomic": "where files are until they are whole",
    "fedpipe.cluster": "where a chunk of clients is computed; a machine that would compute other bits is refused",
    "fedpipe.federation": "which sites compute a chunk; a site that would compute other bits is refused",
    "fedpipe.links": "how bytes come to a site and back",
    "fedpipe.code": "which code a result names, by digest",
    "fedpipe.command_line": "refuses arguments",
    "fedpipe.dvc_lock": "reads what DVC recorded, for MLflow and for refusals",
    "fedpipe.enclosure": "who reaches the TFF worker",
    "fedpipe.errors": "the text of refusals",
    "fedpipe.unmerged": "the text of refusals",
    "fedpipe.secure_aggregation.refusal": "the text of refusals",
    "fedpipe.failure": "the error of a stage, for programs",
    "fedpipe.spelling": "the text of refusals",
    "layout": "where files are; dvc.yaml names the same paths, and another path makes a stage run again",
    "fedpipe.installed": "refuses other libraries than those of libraries.lock",
    "fedpipe.evaluation.identity": "refuses weights of another training",
    "fedpipe.compatibility.across_sections": "the text of refusals",
    "fedpipe.compatibility.aggregation": "the text of refusals",
    "fedpipe.compatibility.asynchrony": "the text of refusals",
    "fedpipe.compatibility.partition": "the text of refusals",
    "fedpipe.compatibility.privacy": "the text of refusals",
    "fedpipe.compatibility.train": "the text of refusals",
    "fedpipe.config": "checks values that are `params` of the stage; what else they decide is a dep of its own",
    "fedpipe.params": "checks values that are `params` of the stage",
    "fedpipe.outputs": "where outputs are until all of them are whole, and who may write them",
    "fedpipe.system": "locks, signals and child processes",
    "fedpipe.stage_process": "how a stage's process starts and ends",
    "fedpipe.provenance": "what a run says of its environment",
    "fedpipe.tracking": "what MLflow is told, after the outputs",
}
# Folders of choices that are imported by name, so that no import statement shows it.
BY_NAME = ("fedpipe/attacks", "fedpipe/losses", "fedpipe/metrics", "fedpipe/models")
# Single keys that a stage reads of another stage's section, and the name that the section has in its code.
SINGLE_KEYS = {"partition": ("evaluate", "evaluation", {"held_out_clients"})}
STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


@cache
def source(module: str) -> Path | None:
    """The file of a module or package of this project; None for no module, and for a package without code."""
    path = Path(*module.split("."))
    if module == "fedpipe":  # names for notebooks, each imported at its first use
        return None
    existing = next((file for file in (path.with_suffix(".py"), path / "__init__.py") if (ROOT / file).is_file()), None)
    return existing if existing and len(ast.parse((ROOT / existing).read_text(encoding="utf-8")).body) > 1 else None


@cache
def imports(file: Path) -> set[str]:
    """The names of this project that a file imports when it runs, at its top or in a function."""
    tree, names = ast.parse((ROOT / file).read_text(encoding="utf-8")), set()
    for branch in [node for node in ast.walk(tree) if isinstance(node, ast.If)]:
        if ast.unparse(branch.test) == "TYPE_CHECKING":
            branch.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.split(".")[0] in ("fedpipe", "stages", "layout") and source(name)}


def reached(module: str, modules: set[str]) -> set[str]:
    """``module`` and all modules that it imports, they import, and so on, less those that decide no bits."""
    if module in modules or any(f"{module}.".startswith(f"{name}.") for name in DECIDE_NO_BITS):
        return modules
    modules.add(module)
    file = source(module)
    if file is None:
        return modules
    for name in sorted(imports(file)):
        reached(name, modules)
    return modules


def chosen_files(dep: str) -> list[Path]:
    """The files that a dep such as ``fedpipe/partitioners/${partition.scheme}.py`` stands for."""
    files = [file.relative_to(ROOT) for file in sorted(ROOT.glob(re.sub(r"\$\{[^}]*\}", "*", dep)))]
    return [file for file in files if not file.name.startswith("_")]


def choices(stage: str) -> list[tuple[str, Path]]:
    """Each dep of a stage that depends on the params, with each of the files that it may stand for."""
    return [(dep, file) for dep in STAGES[stage]["deps"] if "${" in dep for file in chosen_files(dep)]


def files_of(modules: set[str]) -> set[Path]:
    return {file for module in modules if (file := source(module))}


def watched(stage: str, file: Path) -> bool:
    """Whether the stage runs again for a change of ``file``, whatever the params."""
    return bool({Path(dep) for dep in STAGES[stage]["deps"]} & {file, *file.parents})


@pytest.mark.parametrize("stage", STAGES)
def test_deps_hold_what_the_stage_imports(stage: str) -> None:
    unwatched = {str(file) for file in files_of(reached(f"stages.{stage}", set())) if not watched(stage, file)}
    assert not unwatched


@pytest.mark.parametrize(("stage", "dep", "file"), [(stage, *choice) for stage in STAGES for choice in choices(stage)])
def test_deps_hold_what_a_choice_imports(stage: str, dep: str, file: Path) -> None:
    """The chosen file is a dep; so is all that it imports, which cannot be another choice."""
    module = ".".join(file.with_suffix("").parts)
    unwatched = {
        str(imported) for imported in files_of(reached(module, set())) - {file} if not watched(stage, imported)
    }
    assert not unwatched


@pytest.mark.parametrize("stage", STAGES)
def test_deps_hold_no_code_that_is_not_imported(stage: str) -> None:
    """Else a stage runs again for nothing."""
    modules = reached(f"stages.{stage}", set())
    for _, file in choices(stage):
        reached(".".join(file.with_suffix("").parts), modules)
    files = files_of(modules) | {file for folder in BY_NAME for file in (ROOT / folder).relative_to(ROOT).glob("*.py")}
    started = {Path("stages/__init__.py"), Path("fedpipe/pinning.py")}  # whatever is imported
    code = {
        Path(dep)
        for dep in STAGES[stage]["deps"]
        if "${" not in dep and (dep.endswith(".py") or (ROOT / dep / "__init__.py").is_file())
    } - started
    assert not {str(dep) for dep in code if not any(dep in {file, *file.parents} for file in files)}


def loaded_sections(stage: str) -> list[str]:
    """The sections that a stage's code loads, by the calls ``load(params.Train, ...)``."""
    kinds = {kind.__name__: name for kind, name in SECTIONS.items()}
    calls = [
        node for node in ast.walk(ast.parse((ROOT / f"stages/{stage}.py").read_text())) if isinstance(node, ast.Call)
    ]
    loads = [call for call in calls if ast.unparse(call.func).rpartition(".")[2] == "load" and call.args]
    return [kinds[kind] for call in loads if (kind := ast.unparse(call.args[0]).rpartition(".")[2]) in kinds]


@pytest.mark.parametrize("stage", STAGES)
def test_params_hold_every_key_of_every_section_that_the_stage_loads(stage: str) -> None:
    """A section whole, or key by key, so that of a folder only the section of the chosen file is watched."""
    listed, expected = STAGES[stage]["params"], set()
    assert stage in loaded_sections(stage)
    for kind, name in SECTIONS.items():
        if name not in loaded_sections(stage):
            continue
        if name == SINGLE_KEYS.get(stage, ("",))[0]:
            _, local, single = SINGLE_KEYS[stage]
            code = ast.walk(ast.parse((ROOT / f"stages/{stage}.py").read_text()))
            attributes = {ast.unparse(node) for node in code if isinstance(node, ast.Attribute)}
            assert {each for each in attributes if each.startswith(f"{local}.")} == {f"{local}.{key}" for key in single}
            expected |= {f"{name}.{key}" for key in single}
            continue
        if name in listed:
            assert not issubclass(kind, ChoosingSection) and not DECIDE_NOTHING & set(kind.model_fields)
            expected.add(name)
            continue
        expected |= {f"{name}.{key}" for key in set(kind.model_fields) - DECIDE_NOTHING}
        assert issubclass(kind, ChoosingSection)
        expected |= {f"{name}.${{{name}.{key}}}" for key in kind.CHOICES}
    assert set(listed) == expected and len(listed) == len(expected)
