"""The nearest of the allowed names, for messages that refuse one."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, names: Iterable[str]) -> str:
    """The one of ``names`` that is near to ``name``; empty if none is. Capitals and small letters are the same."""
    folded = {each.casefold(): each for each in names}
    near = get_close_matches(name.casefold(), folded, 1)
    return folded[near[0]] if near else ""


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """`` (did you mean fed_avg?)``; empty if none of ``names`` is near (`nearest`)."""
    near = nearest(name, names)
    return f" (did you mean {near}?)" if near else ""
