"""From the name of a file in a folder of choices to the choice that the file defines, as its contract has it."""

import ast
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from fedpipe.config.folder import Folder
from fedpipe.contracts.choice import Choice, ContractError
from fedpipe.errors import PipelineError

C = TypeVar("C", bound=Choice)


class Registry(Generic[C]):
    """The choices that a package holds, one per file, and the contract that the files keep."""

    def __init__(self, folder: Folder, contract: type[C]) -> None:
        self.folder, self.contract = folder, contract
        self._choices: dict[str, C] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """As `Folder.names`."""
        return self.folder.names

    def of(self, name: str) -> C:
        """The choice ``name``, with its file imported.

        Raises:
          ValueError: The file does not exist.
          PipelineError: The file does not keep the folder's contract.
        """
        if name not in self._choices:
            module = import_module(f"{self.folder.package}.{self.folder.require(name)}")
            try:
                self._choices[name] = self.contract.of(_defined(module, self.contract.names()))
            except ContractError as error:
                raise PipelineError(f"{self.folder}/{name}.py {error} (docs/extending.md)") from None
        return self._choices[name]

    def all(self) -> Iterator[tuple[str, C]]:
        """Every name with its choice."""
        return ((name, self.of(name)) for name in self.names)


def _defined(module: ModuleType, known: Iterable[str]) -> dict[str, Any]:
    """The public names that a file defines at its top level, with their values.

    A definition is a function, a class, an assignment, or an import that says so (``from a import b as b``).

    Raises:
      ContractError: A plain import has a name of the contract, which leaves open whose name it is.
    """
    tree = ast.parse(Path(str(module.__file__)).read_bytes())
    names = {name for name in _names(tree.body) if not name.startswith("_")}
    for name in sorted(set(_plain_imports(tree.body)) & set(known) - names):
        raise ContractError(
            f"imports '{name}', a name of this folder's contract: write 'import {name} as {name}' if it is to be the "
            f"file's own, or 'import {name} as _{name}' if not"
        )
    return {name: getattr(module, name) for name in sorted(names)}


def _names(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Assign() | ast.AnnAssign(value=ast.expr()):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                yield from (each.id for part in targets for each in ast.walk(part) if isinstance(each, ast.Name))
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                yield from (alias.name for alias in aliases if alias.name in (alias.asname, "*"))
            case ast.If(body=inner, orelse=others) | ast.Try(body=inner, orelse=others):
                if ast.unparse(getattr(node, "test", ast.Constant(0))) != "TYPE_CHECKING":
                    yield from _names([*inner, *others])


def _plain_imports(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
