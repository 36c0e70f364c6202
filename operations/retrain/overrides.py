"""Params set from the command line: written into params.yaml, comments and all, if the whole file is valid then."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dvc.utils.serialize import dumps_yaml, parse_yaml_for_update
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from fedpipe import params
from fedpipe.atomic import write_text
from fedpipe.config.text import parse_text, read_yaml
from fedpipe.errors import PipelineError
from fedpipe.spelling import did_you_mean
from layout import PARAMS


def apply(settings: Sequence[str], path: Path = PARAMS) -> list[str]:
    """Sets ``key=value`` pairs such as ``train.rounds=5`` in params.yaml; values are YAML.

    Returns:
      Those that changed something.

    Raises:
      PipelineError: A pair is none, names an unknown key, or gives a value that is not allowed; nothing is written.
    """
    if not settings:
        return []
    plain = read_yaml(path)  # says what is wrong with the file as it is
    # DVC's reader and writer, which keep comments and order: `dvc exp run -S` leaves the same file.
    content = parse_yaml_for_update(path.read_text(encoding="utf-8"), path)
    changed = [setting for setting in settings if _set(content, plain, setting)]
    text = dumps_yaml(content)
    _validate(text, path, settings)
    if changed:
        write_text(path, text)
    return changed


def _set(content: dict[str, Any], plain: dict[str, Any], setting: str) -> bool:
    """Sets it in ``content`` and in ``plain`` (the same in Python's own types); False if it was so before."""
    key, equals, value = setting.partition("=")
    if not equals:
        raise PipelineError(f"'{setting}' sets nothing: give key=value, such as train.rounds=5")
    names = key.split(".")
    section: dict[str, Any] = {}
    before: dict[str, Any] = {}
    inner: Any = content
    inner_before: Any = plain
    for name in names:
        if not isinstance(inner, dict) or name not in inner:
            near = did_you_mean(name, inner) if isinstance(inner, dict) else ""
            raise PipelineError(f"'{setting}' sets nothing: params.yaml has no key '{key}'{near}")
        section, before = inner, inner_before
        inner, inner_before = inner[name], inner_before[name]
    last = names[-1]
    try:
        new = YAML(typ="safe").load(value)
    except YAMLError:
        raise PipelineError(f"'{setting}' sets nothing: {value!r} is not a YAML value") from None
    if before[last] == new and type(before[last]) is type(new):
        return False
    section[last] = before[last] = new
    return True


def _validate(text: str, path: Path, settings: Sequence[str]) -> None:
    try:
        params.sections_of(parse_text(text, str(path)), str(path))
    except PipelineError as error:
        raise PipelineError(f"with {' '.join(settings)}, {error}; {path} is as it was") from None
