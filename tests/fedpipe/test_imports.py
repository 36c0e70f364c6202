"""Imports go down: operations -> stages -> fedpipe; and inside fedpipe, no two packages import each other."""

import ast
import importlib
import subprocess
import sys
from collections import defaultdict
from functools import cache
from graphlib import TopologicalSorter
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests import ROOT

FILES = sorted(
    file.relative_to(ROOT) for top in ("fedpipe", "stages", "operations") for file in (ROOT / top).rglob("*.py")
)
FOR_TYPES = "TYPE_CHECKING"


@cache
def imported(file: Path) -> set[str]:
    """The modules that a file imports when it runs, at its top or in a function, by their dotted names."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    branches = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == FOR_TYPES]
    skipped = {id(inner) for branch in branches for statement in branch.body for inner in ast.walk(statement)}
    modules = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return modules


def package(name: str) -> str | None:
    """The part of fedpipe that a dotted name belongs to: a package, or a module beside them."""
    parts = name.split(".")
    if parts[0] != "fedpipe" or len(parts) < 2:
        return None
    here = ROOT / "fedpipe" / parts[1]
    return parts[1] if here.is_dir() or here.with_suffix(".py").is_file() else None


def importers(library: str) -> set[str]:
    """The parts of the project that import a module or a name in it: packages of fedpipe, or a top-level folder."""
    return {
        package(".".join(file.with_suffix("").parts)) or file.parts[0]
        for file in FILES
        if any(name == library or name.startswith(f"{library}.") for name in imported(file))
    }


@pytest.mark.parametrize(
    ("lower", "higher"), [("fedpipe", {"layout", "stages", "operations"}), ("stages", {"operations"})]
)
def test_lower_folders_know_nothing_of_higher_ones(lower: str, higher: set[str]) -> None:
    for file in FILES:
        if file.parts[0] == lower:
            assert not {name.split(".")[0] for name in imported(file)} & higher, file


def test_operations_reach_stages_through_files_only() -> None:
    wrong = {
        str(file)
        for file in FILES
        if file.parts[0] == "operations"
        for name in imported(file)
        if name.startswith("stages.")
    }
    assert not wrong


def test_no_circle_inside_fedpipe() -> None:
    edges: dict[str, set[str]] = defaultdict(set)
    for file in FILES:
        if file.parts[0] == "fedpipe" and (here := package(".".join(file.with_suffix("").parts))):
            edges[here] |= {target for name in imported(file) if (target := package(name)) and target != here}
    assert len(edges) > 20
    list(TopologicalSorter(edges).static_order())  # raises CycleError, which names the circle


def test_choices_of_a_folder_import_no_other() -> None:
    """DVC watches the chosen file only."""
    for folder in (
        "algorithms",
        "aggregators",
        "attacks",
        "compressors",
        "models",
        "losses",
        "metrics",
        "partitioners",
        "quantities",
    ):
        for file in FILES:
            if file.parts[:2] == ("fedpipe", folder):
                names = {name for name in imported(file) if name.startswith(f"fedpipe.{folder}.")}
                assert not {name for name in names if not name.split(".")[2].startswith("_")}, file


def test_only_learning_and_runtime_import_tff() -> None:
    assert importers("fedpipe.lazy.tff") == {"learning", "runtime"}


def test_only_links_and_runtime_import_grpc() -> None:
    """What a federation sends knows no transport."""
    assert importers("grpc") == {"links", "runtime"}


def test_only_the_link_through_nvidia_flare_imports_it() -> None:
    assert importers("nvflare") == {"links"}
    files = [file for file in FILES if any(name.split(".")[0] == "nvflare" for name in imported(file))]
    assert {file.parent.as_posix() for file in files} == {"fedpipe/links/flare"}


def test_all_of_the_library_imports_tensorflow_through_lazy() -> None:
    """Else it depends on the order of imports what TensorFlow leaves out."""
    assert not (importers("tensorflow") | importers("tensorflow_federated")) - {"benchmarks", "tests"}


def test_only_cluster_imports_dask() -> None:
    assert importers("distributed") | importers("dask") == {"cluster"}


@pytest.mark.slow
def test_a_training_on_this_machine_loads_no_dask() -> None:
    code = "import stages.train, fedpipe.runtime.training, fedpipe.cluster.cluster"
    assert not loaded_by(code) & {"distributed", "dask"}


@pytest.mark.parametrize("module", ["stages.train", "fedpipe.simulation", "operations.profile"])
def test_the_worker_starts_before_tensorflow_is_imported(module: str) -> None:
    assert not loaded_by(f"import {module}") & {"tensorflow", "tensorflow_federated"}


def test_every_name_that_benchmarks_import_exists() -> None:
    for file in sorted((ROOT / "benchmarks").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("fedpipe."):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name) or find_spec(f"{node.module}.{alias.name}"), (file, alias.name)


def test_only_tracking_imports_mlflow() -> None:
    """Operations on a model registry use its errors besides."""
    assert importers("mlflow") <= {"tracking", "operations"}


HEAVY = {"tensorflow", "tensorflow_federated", "mlflow", "numpy", "pandas", "pydantic", "matplotlib", "scipy", "grpc"}


def modules_after(code: str) -> set[str]:
    """The modules that are loaded after ``code`` ran in a new process, by import statements or otherwise."""
    command = [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"]
    return set(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split())


def loaded_by(code: str) -> set[str]:
    """The top-level modules that are loaded after ``code`` ran in a new process."""
    return {name.split(".")[0] for name in modules_after(code)}


def test_importing_fedpipe_does_no_work() -> None:
    assert not loaded_by("import fedpipe") & HEAVY


def test_params_are_checked_without_tensorflow() -> None:
    """All choices of all folders are imported for it."""
    code = (
        "from fedpipe import params; from fedpipe.contracts import train, model\n"
        "for r in (*train.REGISTRIES.values(), model.METRICS):\n"
        "    list(r.all())\n"
        "from pathlib import Path; params.load(params.Train, Path('params.yaml'))"
    )
    assert not loaded_by(code) & {"tensorflow", "tensorflow_federated", "mlflow", "keras", "grpc", "matplotlib"}


LOAD = "from pathlib import Path; from fedpipe import params; params.load(params.{}, Path('params.yaml'))"
OF_TRAIN = ("algorithms", "aggregators", "models", "losses", "cohorts", "attacks", "compressors", "metrics")
OF_PARTITION = ("partitioners", "quantities")


def choices_among(modules: set[str]) -> set[str]:
    """The files of choices, as ``algorithms.fed_avg``."""
    files = {name.removeprefix("fedpipe.") for name in modules if name.count(".") == 2}
    return {file for file in files if file.split(".")[0] in OF_TRAIN + OF_PARTITION}


def test_the_types_of_sections_import_no_choice() -> None:
    """Not even the packages above them: a section is data."""
    names = [f"fedpipe.config.{path.stem}" for path in (ROOT / "fedpipe/config").glob("[!_]*.py")]
    modules = modules_after(f"import {', '.join(names)}")
    assert not choices_among(modules)
    parts = {package(name) for name in modules if name.startswith("fedpipe.")} - {None}
    assert parts == {"config", "errors", "spelling", "unmerged"}


@pytest.mark.parametrize("section", ["Download", "Evaluate", "Promote"])
def test_loading_a_section_without_choices_imports_none(section: str) -> None:
    modules = modules_after(LOAD.format(section))
    assert not choices_among(modules) and "fedpipe.learning" not in modules


def test_loading_the_partition_imports_its_own_choices_alone() -> None:
    modules = modules_after(LOAD.format("Partition"))
    files = choices_among(modules)
    assert "partitioners.contiguous" in files and {file.split(".")[0] for file in files} == set(OF_PARTITION)
    assert "fedpipe.learning" not in modules


def test_no_circle_of_packages_at_run_time() -> None:
    """Imports by name included: what is below a package stays without it when all of it is used."""
    uses = {
        "contracts": "from fedpipe.contracts import train, model, partition",
        "compatibility": "import fedpipe.compatibility.train, fedpipe.compatibility.across_sections",
    }
    for lower, code in uses.items():
        assert not choices_among(modules_after(code)), lower
    assert "fedpipe.params" not in modules_after("import fedpipe.compatibility.train")


def test_the_settings_of_a_cluster_load_no_cluster() -> None:
    modules = modules_after(
        "from pathlib import Path; from fedpipe.cluster import settings; settings.chosen(Path('no'))"
    )
    assert not {"fedpipe.cluster.cluster", "fedpipe.cluster.member_side"} & modules
