"""How a contract declares its names, and the names that all folders share.

A name is declared in one line of a dataclass:

    client_init: Callable[[Task], Tensors] | None = function("task", "Returns the state of a client ...", None)
    COLLECTS: bool = constant(False, "Whether `finish` gets all rows ...")
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Self

from fedpipe.config.section import Section
from fedpipe.config.train import Train
from fedpipe.spelling import did_you_mean


class ContractError(ValueError):
    """A file does not keep its folder's contract; the text follows the file's path."""


class NoParams(Section):
    """The section of a choice that takes no params."""


def function(parameters: str, doc: str, default: Any = MISSING) -> Any:
    """Declares a function that a file may define.

    Args:
      parameters: The names of its parameters, which are passed by position: ``task, server``.
      doc: One sentence for docs/extending.md.
      default: The function of files without the name, or None; files must define a name without a default.
    """
    return field(default=default, metadata={"parameters": parameters.split(", "), "doc": doc})


def constant(default: bool | int | str | tuple[str, ...], doc: str) -> Any:
    """Declares a constant that a file may define, of the type of its default."""
    return field(default=default, metadata={"type": type(default), "doc": doc})


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Every file."""

    Params: type[Section] = field(
        default=NoParams,
        metadata={"doc": "The params of the file, a `Section`; without it the file takes none. Not for metrics."},
    )

    def __post_init__(self) -> None:
        self._check_names()

    @classmethod
    def names(cls) -> dict[str, Field[Any]]:
        """The public names that a file may define."""
        return {each.name: each for each in fields(cls)}

    @classmethod
    def of(cls, defined: Mapping[str, Any]) -> Self:
        """The choice with the public names that a file defines.

        Raises:
          ContractError: A name is unknown or missing, a value is of the wrong kind, or two names contradict each other.
        """
        names = cls.names()
        for name, value in defined.items():
            if name not in names:
                raise ContractError(
                    f"defines '{name}', which is no name that this folder knows{did_you_mean(name, names)}; known are "
                    f"{', '.join(names)}, and names of the file's own begin with an underscore"
                )
            _require_kind(names[name], value)
        missing = [name for name, each in names.items() if each.default is MISSING and name not in defined]
        if missing:
            raise ContractError(f"does not define '{missing[0]}', which every file of this folder must define")
        return cls(**defined)

    def defines(self, name: str) -> bool:
        """Whether the file defines ``name`` itself."""
        return getattr(self, name) is not self.names()[name].default

    def _check_names(self) -> None:
        """Checks which names go together.

        Raises:
          ContractError: Two names contradict each other, or one needs another.
        """


@dataclass(frozen=True, kw_only=True)
class TrainChoice(Choice):
    """Every file that a key of section ``train`` chooses, but metrics."""

    check: Callable[[Train], None] = function(
        "settings",
        "Raises `ValueError` for a section `train` that makes no sense with the file; runs before any stage.",
        lambda settings: None,
    )
    check_clients: Callable[[Train, int], None] = function(
        "settings, clients",
        "Raises `ValueError` for a number of clients that makes no sense with the file; runs before any stage.",
        lambda settings, clients: None,
    )


def _require_kind(name: Field[Any], value: Any) -> None:
    """Raises ContractError for a value that is not of the kind that the contract declares."""
    if value is None and "| None" in str(name.type):
        return
    parameters, kind = name.metadata.get("parameters"), name.metadata.get("type")
    if parameters is not None:
        if not callable(value) or isinstance(value, type):
            raise ContractError(f"defines '{name.name}' as {value!r}; it must be a function of ({_listed(parameters)})")
        try:
            signature = inspect.signature(value)
            signature.bind(*parameters)
        except TypeError:
            raise ContractError(
                f"defines '{name.name}{signature}'; it is called with {len(parameters)} arguments by position: "
                f"({_listed(parameters)})"
            ) from None
    elif kind is not None:
        if type(value) is not kind:
            shown = value if not callable(value) else "a function or class"
            raise ContractError(f"defines '{name.name}' as {shown!r}; it must be a constant of type {kind.__name__}")
    elif not (isinstance(value, type) and issubclass(value, Section)):
        raise ContractError(f"defines '{name.name}' as {value!r}; it must be a class that inherits from Section")


def _listed(parameters: list[str]) -> str:
    return ", ".join(parameters)
