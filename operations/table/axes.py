"""The axes of a table: for each value of an axis, its overlay of params.yaml."""

from pathlib import Path
from typing import Any

from fedpipe.config import read_yaml

Overlay = dict[str, Any]  # a part of the tree of params.yaml


def overlays_of(name: str, content: Any) -> Any:
    """What each value of an axis lays over params.yaml.

    Args:
      name: The axis, for messages.
      content: As the table has it: a mapping of values to overlays, ``key`` and ``values`` of one param, or ``files``,
        a folder whose YAML files are the overlays.

    Raises:
      ValueError: It is none of these.
    """
    if not isinstance(content, dict):
        return content
    if set(content) == {"files"}:
        return _overlays(name, content["files"])
    if not {"key", "values"} & set(content):
        return {str(label): {} if overlay is None else overlay for label, overlay in content.items()}
    key, values = content.get("key"), content.get("values")
    if set(content) != {"key", "values"} or not isinstance(key, str) or not isinstance(values, list):
        raise ValueError(f"'axes.{name}' must have 'key', such as train.batch_size, and 'values', a list")
    labels = [str(value) for value in values]
    if len(set(labels)) < len(labels):
        raise ValueError(f"'axes.{name}' has a value twice: {', '.join(labels)}")
    return {label: _nested(key, value) for label, value in zip(labels, values, strict=True)}


def _overlays(name: str, folder: Any) -> dict[str, Overlay]:
    """The YAML files of a folder, each a value of an axis that is named as its file."""
    paths = sorted(Path(folder).glob("*.yaml")) if isinstance(folder, str) else []
    if not paths:
        raise ValueError(f"'axes.{name}.files' must be a folder with YAML files, such as recipes, not {folder!r}")
    return {path.stem: read_yaml(path) for path in paths}


def _nested(key: str, value: Any) -> Overlay:
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)
