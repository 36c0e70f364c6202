"""A folder of choices is its own registry: the value in params.yaml is the name of a file in the folder.

A file holds its own params as a class ``Params``, a `Section`; a file without one takes no params. Files whose names
start with ``_`` are no choices. Nothing else lists them, so adding a file is all it takes to add a choice.
"""

from collections.abc import Callable
from difflib import get_close_matches
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from fedpipe.config.section import Section
from fedpipe.errors import PipelineError


class NoParams(Section):
    """The section of a choice that takes no params."""


class Registry:
    """The choices that a package holds, one per file."""

    def __init__(self, package: str) -> None:
        """``package``: the dotted name of the folder, such as ``fedpipe.algorithms``."""
        self.package = package

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All choices in alphabetical order, found without importing any of them."""
        spec = find_spec(self.package)
        folders = spec.submodule_search_locations or [] if spec else []
        files = {path.stem for folder in folders for path in Path(folder).glob("*.py")}
        return tuple(sorted(name for name in files if not name.startswith("_")))

    def require(self, name: str) -> str:
        """Returns ``name`` if it is a choice.

        Raises:
          ValueError: It is none; the message lists the choices and names the nearest one.
        """
        if name in self.names:
            return name
        near = get_close_matches(name, self.names, 1)
        raise ValueError(
            f"there is no such file in {self.folder}; choose one of {', '.join(self.names)}"
            + (f" (did you mean {near[0]}?)" if near else "")
        )

    @property
    def folder(self) -> str:
        """The folder as people write it: ``fedpipe/algorithms``."""
        return self.package.replace(".", "/")

    def module(self, name: str) -> ModuleType:
        """The file ``name`` of the folder, imported.

        Raises:
          ValueError: There is no such file.
        """
        return import_module(f"{self.package}.{self.require(name)}")

    def function(self, name: str, function: str) -> Callable[..., Any]:
        """The function that every file of the folder has, of the choice ``name``.

        Raises:
          ValueError: There is no such file.
          PipelineError: The file has no such function.
        """
        found = getattr(self.module(name), function, None)
        if not callable(found):
            raise PipelineError(
                f"{self.folder}/{name}.py has no function '{function}', which every file of this folder must have "
                "(docs/extending.md)"
            )
        return found

    def params(self, name: str) -> type[Section]:
        """The class of the params that the choice ``name`` takes.

        Raises:
          ValueError: There is no such file.
        """
        return getattr(self.module(name), "Params", NoParams)
