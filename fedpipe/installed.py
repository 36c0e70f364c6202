"""The packages of this Python beside those of a lock: `make env` compares them, and so does a process before it trains.

    python installed.py LOCK    prints one line for each package that LOCK names and that is not installed as it says

As a script it needs the standard library alone.
"""

import importlib.machinery
import os
import re
import sys
import sysconfig
from pathlib import Path

_PINNED = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s\\;]+)")


def differences(lock: Path) -> list[str]:
    """One phrase for each package that is not installed as a line of ``lock`` (``numpy==1.25.2``) pins it."""
    folders = [folder.removesuffix(".dist-info") for folder in _names(_packages()) if folder.endswith(".dist-info")]
    installed = {_normal(name): version for name, _, version in (folder.rpartition("-") for folder in folders)}
    pins = (_PINNED.match(line) for line in lock.read_text(encoding="utf-8").splitlines())
    versions = {_normal(pin[1]): pin[2] for pin in pins if pin}
    return [
        f"{name} {installed[name]} in place of {version}" if name in installed else f"no {name}"
        for name, version in versions.items()
        if installed.get(name) != version
    ]


def shadowed() -> list[str]:
    """The modules of installed packages that Python would import from elsewhere: ``numpy from /home/me/lib``."""
    installed = {name.partition(".")[0] for name in _names(_packages())}
    standard = set(sysconfig.get_paths().values()) - {_packages()}
    modules = []
    for folder in (folder or str(Path.cwd()) for folder in sys.path):
        if os.path.realpath(folder) == os.path.realpath(_packages()):
            break  # later folders are searched only for packages that it lacks
        if folder not in standard and not folder.endswith(("lib-dynload", ".zip")):
            modules += [f"{name} from {folder}" for name in sorted(_modules(folder) & installed)]
    return modules


def require(lock: Path) -> None:
    """Checks that this process imports the packages that ``lock`` pins.

    Raises:
      PipelineError: It does not; the message names the first ones.
    """
    from fedpipe.errors import PipelineError

    remedy = "use `make repro`, or `dvc repro` after `source .venv/bin/activate`"
    if modules := shadowed():
        raise PipelineError(
            f"Python would import {_some(modules)}, not from its own environment: results would be others; unset "
            f"PYTHONPATH, move the files away, or {remedy}"
        )
    if phrases := differences(lock):
        raise PipelineError(
            f"the Python {sys.executable} has {_some(phrases)}, so results would not be those of {lock.name}: "
            f"{remedy}; `make env` installs what is missing"
        )


def _packages() -> str:
    return sysconfig.get_path("purelib")


def _names(folder: str) -> list[str]:
    try:
        return [path.name for path in Path(folder).iterdir()]
    except OSError:  # a zip file, or a folder that is not there
        return []


def _modules(folder: str) -> set[str]:
    """The names of the modules in a folder; a folder without ``__init__.py`` hides no package of the same name."""
    suffixes, names = tuple(importlib.machinery.all_suffixes()), _names(folder)
    packages = {name for name in names if Path(folder, name, "__init__.py").is_file()}
    return packages | {name.partition(".")[0] for name in names if name.endswith(suffixes)}


def _normal(name: str) -> str:
    """The name as package indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _some(phrases: list[str]) -> str:
    others = len(phrases) - 3
    return ", ".join(phrases[:3]) + (f" and {others} more" if others > 0 else "")


if __name__ == "__main__":
    print("\n".join(differences(Path(sys.argv[1]))))
