"""Pydantic's errors as phrases for people: the dotted key, the fault, and the allowed values."""

import re
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from fedpipe.config.choices import ChoosingSection
from fedpipe.spelling import did_you_mean, nearest


def mistakes(error: ValidationError, model: type[BaseModel], name: str = "") -> list[str]:
    """One phrase for each wrong key; a misspelt key is one mistake, though its right spelling is missing as well.

    Args:
      error: The validation's error.
      model: The validated model.
      name: The key that holds the model, such as ``train``; empty for a whole file.
    """
    items = [(item, _keys(item["loc"], model)) for item in error.errors()]
    missing = {_dotted(name, keys) for item, keys in items if item["type"] == "missing"}
    phrases: dict[str, str] = {}
    misspelt = set()
    for item, keys in items:
        key = _dotted(name, keys)
        if item["type"] == "extra_forbidden":
            above, section = key.rpartition(".")[0], _at(model, keys[:-1])
            lacking = [each.rpartition(".")[2] for each in sorted(missing) if each.rpartition(".")[0] == above]
            near = nearest(str(keys[-1]), lacking) or nearest(str(keys[-1]), _names(section))
            misspelt.add(f"{above}.{near}" if above else near)
            phrases[key] = f"unknown key '{key}'{f' (did you mean {near}?)' if near else ''}; allowed: {_own(section)}"
        elif item["type"] == "missing":
            phrases[key] = f"key '{key}' is missing"
        elif isinstance(item["input"], dict) and item["type"] == "value_error":
            # About several keys of a section, and says which.
            phrases[key] = f"'{key}': {item['ctx']['error']}" if key else str(item["ctx"]["error"])
        else:
            text = item["msg"].removeprefix("Value error, ")
            text = text[0].lower() + text[1:]
            if item["type"] == "literal_error":
                text += did_you_mean(str(item["input"]), re.findall(r"'([^']*)'", item["ctx"]["expected"]))
            before = f"{phrases[key]}, or " if key in phrases else f"'{key}' is {item['input']!r}: "
            phrases[key] = before + text.replace("input ", "")
    return [phrase for key, phrase in phrases.items() if key not in misspelt & missing]


def _keys(location: tuple[int | str, ...], model: type[BaseModel]) -> list[Any]:
    """The keys of the file that lead to a mistake.

    A union adds the member's name ("literal['all']", "constrained-int") to the location.
    """
    keys = [part for part in location if isinstance(part, int) or part.isidentifier()]
    return keys[: _depth(model, keys)]


def _dotted(name: str, keys: list[Any]) -> str:
    return ".".join(map(str, [name, *keys] if name else keys))


def _names(model: type[BaseModel]) -> list[str]:
    """All keys that a section may have, those of choices that it lacks at present among them."""
    choices = model.CHOICES.values() if issubclass(model, ChoosingSection) else ()
    return list(dict.fromkeys([*model.model_fields, *(each for folder in choices for each in folder.names)]))


def _own(model: type[BaseModel]) -> str:
    """The keys of a section for a person; dozens of sections of choices are not listed."""
    choices = model.CHOICES.values() if issubclass(model, ChoosingSection) else ()
    of_choices = {each for folder in choices for each in folder.names}
    own = ", ".join(field for field in model.model_fields if field not in of_choices)
    return f"{own}, and sections with the names of files in {', '.join(map(str, choices))}" if of_choices else own


def _at(model: type[BaseModel], keys: list[Any]) -> Any:
    """The model that ``keys`` lead to."""
    current: Any = model
    for key in keys:
        current = current if isinstance(key, int) else _kind(current, key)
    return current


def _depth(model: type[BaseModel], keys: list[Any]) -> int:
    """How many of ``keys`` name something in the file, the rest being a union member's name."""
    current: Any = model
    for depth, key in enumerate(keys):
        if isinstance(key, int) or not (isinstance(current, type) and issubclass(current, BaseModel)):
            return depth + 1 if isinstance(key, int) else depth
        if key not in current.model_fields:
            return depth + 1
        current = _kind(current, key)
    return len(keys)


def _kind(model: type[BaseModel], key: str) -> Any:
    """What ``key`` holds in ``model``; of an optional section, the section."""
    kind = model.model_fields[key].annotation
    inner = [member for member in get_args(kind) if isinstance(member, type) and issubclass(member, BaseModel)]
    return inner[0] if inner else kind
