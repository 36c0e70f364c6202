"""Merging params.yaml key by key: lines in conflict often hold keys that only one side changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dvc.exceptions import DvcException
from dvc.utils.serialize import dumps_yaml, parse_yaml_for_update

from fedpipe import params
from fedpipe.config import parse_text
from fedpipe.errors import PipelineError
from operations.resolve.conflicts import Conflict, Side


class _Absent:
    """The value of a key that a side does not have."""

    def __repr__(self) -> str:
        return "absent"


_ABSENT = _Absent()


@dataclass(frozen=True)
class Choice:
    """A key to which both sides gave another value.

    Attributes:
      key: Its dotted name.
      base: Its value in the common ancestor, here and below; `_ABSENT` where it lacks the key.
      ours: On the branch that is checked out.
      theirs: On the branch that is merged.
    """

    key: str
    base: Any
    ours: Any
    theirs: Any

    def __str__(self) -> str:
        return f"{self.key} (ours {self.ours}, theirs {self.theirs}, before {self.base})"


def merged(conflict: Conflict, side: Side | None, by_key: Mapping[str, Side]) -> str:
    """The text of params.yaml with the changes of both sides, comments and order kept.

    Args:
      conflict: The file.
      side: Whose value a key gets that both sides changed; None if nobody chose.
      by_key: The same for single keys, by their dotted names.

    Raises:
      PipelineError: Nobody chose for a key that both sides changed, a key of ``by_key`` is none of them, or the
        merged file is not valid.
    """
    base, ours, theirs = (
        parse_text(text or "", conflict.path) for text in (conflict.base, conflict.ours, conflict.theirs)
    )
    merging = _Merging(side, by_key)
    tree = merging.merge(base, ours, theirs)
    choices = merging.choices
    unknown = sorted(set(by_key) - {choice.key for choice in choices})
    if unknown:
        raise PipelineError(
            f"{conflict.path}: there is no choice for {', '.join(unknown)}: at most one side changed it"
        )
    open_choices = [choice for choice in choices if side is None and choice.key not in by_key]
    if open_choices:
        raise PipelineError(
            f"{conflict.path}: both sides changed {', '.join(map(str, open_choices))}: choose a side with "
            '`make resolve ARGS="--params ours"` or theirs, or for one key with `ARGS="--params ours KEY=theirs"`'
        )
    text = _imposed(conflict, side or "ours", tree)
    try:
        params.sections_of(parse_text(text, conflict.path), conflict.path)
    except PipelineError as error:
        together = f"the changes of both sides do not go together: {error}"
        raise PipelineError(f"{together}; edit it, then `git add` it") from None
    return text


class _Merging:
    """The merge of two trees; ``choices`` has each key that both sides changed."""

    def __init__(self, side: Side | None, by_key: Mapping[str, Side]) -> None:
        self._side, self._by_key = side, by_key
        self.choices: list[Choice] = []

    def merge(self, base: Any, ours: Any, theirs: Any, above: str = "") -> dict[str, Any]:
        """The merged mapping of the keys below ``above``."""
        former = base if isinstance(base, Mapping) else {}
        tree = {}
        for key in dict.fromkeys([*ours, *theirs]):
            values = [each.get(key, _ABSENT) for each in (former, ours, theirs)]
            value = self._value(f"{above}{key}", *values)
            if value is not _ABSENT:
                tree[key] = value
        return tree

    def _value(self, name: str, before: Any, mine: Any, other: Any) -> Any:
        if isinstance(mine, Mapping) and isinstance(other, Mapping):
            return self.merge(before, mine, other, f"{name}.")
        if _same(mine, other) or _same(before, other):
            return mine
        if _same(before, mine):
            return other
        self.choices.append(Choice(name, before, mine, other))
        return other if self._by_key.get(name, self._side) == "theirs" else mine


def _same(first: Any, second: Any) -> bool:
    return first is second or (type(first) is type(second) and bool(first == second))


def _imposed(conflict: Conflict, side: Side, tree: Mapping[str, Any]) -> str:
    """Git's merge of the lines, which has both sides' comments, with the values of ``tree``."""
    for text in (conflict.merged_lines(side), conflict.text(side) or ""):
        try:
            content = parse_yaml_for_update(text, conflict.path)
        except DvcException:  # lines of both sides need not make a file together
            continue
        _impose(content, tree)
        return dumps_yaml(content)
    raise PipelineError(f"{conflict.path}: the file of {side} is not valid YAML: edit it, then `git add` it")


def _impose(content: Any, tree: Mapping[str, Any]) -> None:
    for key in [key for key in content if key not in tree]:
        del content[key]
    for key, value in tree.items():
        if isinstance(value, Mapping) and isinstance(content.get(key), dict):
            _impose(content[key], value)
        elif key not in content or not _same_value(content[key], value):
            content[key] = value


def _same_value(present: Any, value: Any) -> bool:
    """As `_same` for what ruamel.yaml reads: its numbers and lists are of classes of their own."""
    return bool(present == value) and isinstance(present, bool) == isinstance(value, bool)
