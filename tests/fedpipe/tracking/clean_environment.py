"""A virtual environment with some packages and all that these need, and nothing else: links to those of this one."""

import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def make(folder: Path, requirements: Iterable[str]) -> Path:
    """Makes the environment in ``folder``, and returns its Python.

    Raises:
      PackageNotFoundError: A requirement is not installed here.
      ValueError: It is installed in another version.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for each in _with_what_they_need(requirements):
        _link(each, packages)
    return folder / "bin/python"


def _with_what_they_need(requirements: Iterable[str]) -> list[Distribution]:
    needed: dict[str, Distribution] = {}
    left = [(Requirement(each), True) for each in requirements]
    while left:
        requirement, is_named = left.pop()
        name = canonicalize_name(requirement.name)
        if name in needed:
            continue
        try:
            each = needed[name] = distribution(requirement.name)
        except PackageNotFoundError:
            if is_named:
                raise
            continue  # overrides.txt leaves it out
        if is_named and each.version not in requirement.specifier:
            raise ValueError(f"{requirement} is asked for, and {each.version} is installed")
        further = [Requirement(text) for text in each.requires or []]
        left += [(own, False) for own in further if own.marker is None or own.marker.evaluate({"extra": ""})]
    return list(needed.values())


def _link(package: Distribution, folder: Path) -> None:
    """Links every file of a package; packages that share a folder, such as google, stay apart so."""
    for file in package.files or []:
        if ".." in file.parts or file.suffix == ".pyc":  # commands, and what Python writes itself
            continue
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        if not (folder / file).is_symlink():
            (folder / file).symlink_to(Path(str(package.locate_file(file))).resolve())
