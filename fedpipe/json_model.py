"""JSON files that describe data: read into a pydantic model, or rejected with an error."""

import json
import math
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from fedpipe import unmerged
from fedpipe.errors import PipelineError

M = TypeVar("M", bound=BaseModel)


def read_json(model: type[M], path: Path, *, missing: str, wrong: str) -> M:
    """Reads ``path`` as a ``model``.

    Args:
      model: The model of the file's content.
      path: The file.
      missing: The remedy if the file is missing.
      wrong: The fault, with the remedy, if the file holds anything else.

    Raises:
      PipelineError: The file is missing, or does not fit the model.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if unmerged.has_marks(text):
            raise PipelineError(unmerged.sentence(str(path)))
        return model.model_validate_json(text)
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing: {missing}") from None
    except (ValidationError, UnicodeDecodeError):
        raise PipelineError(f"{path} {wrong}") from None


def json_text(content: Any) -> str:
    """``content`` as JSON with indents and a last newline; null for infinity and NaN, which JSON does not have."""
    return json.dumps(_finite(content), indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
