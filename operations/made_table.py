"""The part of a page of docs that a command makes, between two lines that mark it."""

from pathlib import Path

from fedpipe.errors import PipelineError

_END = "<!-- end -->\n"


def renewed(text: str, page: Path, command: str, made: str) -> str:
    """The text of a page with the made part of today.

    Args:
      text: Of the page.
      page: Its path, for messages.
      command: What makes the part, as its first mark names it.
      made: The part.

    Raises:
      PipelineError: The page lacks a mark.
    """
    mark = f"<!-- made by `{command}` -->\n"
    before, begin, rest = text.partition(mark)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise PipelineError(f"{page} has no part between '{mark.strip()}' and '{_END.strip()}': put both lines back")
    return f"{before}{mark}\n{made}\n{_END}{after}"
