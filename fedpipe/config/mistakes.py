"""What pydantic finds wrong, as phrases for people: the dotted key, what is wrong with it, and what is allowed."""

from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from fedpipe.spelling import did_you_mean


def mistakes(error: ValidationError, model: type[BaseModel], name: str = "") -> list[str]:
    """One phrase for each wrong key.

    Args:
      error: What the validation raised.
      model: What was validated.
      name: The key that holds the model, such as ``train``; empty for a whole file.
    """
    phrases: dict[str, str] = {}
    for item in error.errors():
        # A union adds the member's name ("literal['all']", "constrained-int") to the location.
        keys = [part for part in item["loc"] if isinstance(part, int) or part.isidentifier()]
        keys = keys[: _depth(model, keys)]
        key = ".".join(map(str, [name, *keys] if name else keys))
        if item["type"] == "extra_forbidden":
            fields = list(_at(model, keys[:-1]).model_fields)
            near = did_you_mean(str(keys[-1]), fields)
            phrases[key] = f"unknown key '{key}'{near}; allowed: {', '.join(fields)}"
        elif item["type"] == "missing":
            phrases[key] = f"key '{key}' is missing"
        elif isinstance(item["input"], dict) and item["type"] == "value_error":
            # About several keys of a section, and says which.
            phrases[key] = f"'{key}': {item['ctx']['error']}" if key else str(item["ctx"]["error"])
        else:
            text = item["msg"].removeprefix("Value error, ")
            text = text[0].lower() + text[1:]
            before = f"{phrases[key]}, or " if key in phrases else f"'{key}' is {item['input']!r}: "
            phrases[key] = before + text.replace("input ", "")
    return list(phrases.values())


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
