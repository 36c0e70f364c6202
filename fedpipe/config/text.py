"""YAML to a mapping, or to one sentence that says where it is wrong."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from fedpipe import unmerged
from fedpipe.errors import PipelineError


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads ``path`` as a mapping.

    Raises:
      PipelineError: The file is missing, is not YAML, or is not a mapping.
    """
    try:
        return parse_text(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing; run from the project's top folder") from None


def parse_text(text: str | bytes, source: str) -> dict[str, Any]:
    """As `read_yaml`, from a text; ``source`` names it in messages."""
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8")
        if unmerged.has_marks(decoded):
            raise PipelineError(unmerged.sentence(source))
        # DVC's own parser: 1e-3 is a number to both (in YAML 1.1, PyYAML's, it is a text).
        tree = YAML(typ="safe").load(decoded)
    except MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise PipelineError(f"{source}{line} is not valid YAML: {error.problem}") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise PipelineError(f"{source} is not valid YAML: {error}") from None
    if tree is None:  # nothing but comments
        return {}
    if not isinstance(tree, dict):
        raise PipelineError(f"{source} must hold keys with values, such as 'key: value'")
    return tree
