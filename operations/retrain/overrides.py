"""Params set from the command line: written into params.yaml, comments and all, if the whole file is valid then."""

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import RoundTripRepresenter

from fedpipe import config as params
from fedpipe.atomic import write_text
from fedpipe.errors import PipelineError


class _Representer(RoundTripRepresenter):
    """ruamel's, but ``null`` stays ``null`` and does not become nothing."""


_Representer.add_representer(
    type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
)


def apply(settings: Sequence[str], path: Path = params.PARAMS_FILE) -> list[str]:
    """Sets ``key=value`` pairs such as ``train.rounds=5`` in params.yaml; values are YAML.

    Returns:
      Those that changed something.

    Raises:
      PipelineError: A pair is none, names an unknown key, or gives a value that is not allowed; nothing is written.
    """
    if not settings:
        return []
    plain = params.read_yaml(path)  # says what is wrong with the file as it is
    yaml = YAML()  # keeps comments and order
    yaml.Representer = _Representer
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    content = yaml.load(path.read_text(encoding="utf-8"))
    changed = [setting for setting in settings if _set(content, plain, setting)]
    text = io.StringIO()
    yaml.dump(content, text)
    _check(text.getvalue(), path, settings)
    if changed:
        write_text(path, text.getvalue())
    return changed


def _set(content: dict[str, Any], plain: dict[str, Any], setting: str) -> bool:
    """Sets it in ``content`` and in ``plain`` (the same in Python's own types); False if it was so before."""
    key, equals, value = setting.partition("=")
    if not equals:
        raise PipelineError(f"'{setting}' sets nothing: give key=value, such as train.rounds=5")
    *above, last = key.split(".")
    section: Any = content
    before: Any = plain
    for name in above:
        section = section.get(name) if isinstance(section, dict) else None
        before = before.get(name) if isinstance(before, dict) else None
    if not isinstance(section, dict) or last not in section:
        raise PipelineError(f"'{setting}' sets nothing: params.yaml has no key '{key}'")
    try:
        new = YAML(typ="safe").load(value)
    except YAMLError:
        raise PipelineError(f"'{setting}' sets nothing: {value!r} is not a YAML value") from None
    if before[last] == new and type(before[last]) is type(new):
        return False
    section[last] = before[last] = new
    return True


def _check(text: str, path: Path, settings: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        candidate = Path(folder, path.name)
        candidate.write_text(text, encoding="utf-8")
        try:
            params.load(params.Train, candidate)
        except PipelineError as error:
            problem = str(error).replace(str(candidate), str(path))
            raise PipelineError(f"with {' '.join(settings)}, {problem}; {path} is as it was") from None
