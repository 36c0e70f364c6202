"""A folder of choices, by the names of its files: the value in params.yaml is the name of a file in the folder.

Files whose names start with ``_`` are no choices. Nothing else lists the files, so adding a file is all it takes to
add a choice. Nothing here imports a file; fedpipe/contracts does.
"""

from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from fedpipe.spelling import did_you_mean


class Folder:
    """The names of the choices that a package holds, one per file."""

    def __init__(self, package: str) -> None:
        """``package``: the dotted name of the folder, such as ``fedpipe.algorithms``."""
        self.package = package

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All choices in alphabetical order."""
        spec = find_spec(self.package)
        folders = spec.submodule_search_locations or [] if spec else []
        files = {path.stem for folder in folders for path in Path(folder).glob("*.py")}
        return tuple(sorted(name for name in files if not name.startswith("_")))

    def __str__(self) -> str:
        """The folder as people write it: ``fedpipe/algorithms``."""
        return self.package.replace(".", "/")

    def require(self, name: str) -> str:
        """Returns ``name`` if it is a choice.

        Raises:
          ValueError: It is none; the message lists the choices and names the nearest one.
        """
        if name in self.names:
            return name
        raise ValueError(
            f"there is no such file in {self}; choose one of {', '.join(self.names)}" + did_you_mean(name, self.names)
        )
