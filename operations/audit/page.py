"""Renews the table of advisories in docs/security.md, from operations/audit/advisories.yaml."""

from collections.abc import Sequence
from pathlib import Path

from fedpipe.command_line import without_arguments
from fedpipe.errors import PipelineError, run_stage
from operations.audit import advisories
from operations.audit.advisories import Advisory

PAGE = Path("docs/security.md")
BEGIN, END = "<!-- made by `python -m operations.audit.page` -->\n", "<!-- end -->\n"
_REACHABLE = {
    "no": "No.",
    "file": "By a file that you name.",
    "shared": "By other users of the machine.",
}


def table(known: Sequence[Advisory]) -> str:
    """A row for each advisory; those that are reachable come first."""
    rows = ["| advisory | package | correction | content | reachable here? |", "| --- | --- | --- | --- | --- |"]
    for each in sorted(known, key=lambda advisory: advisory.reachable == "no"):
        names = ", ".join([each.id, *each.aliases])
        correction = each.fixed if each.fixed != "none" else "none"
        correction = "none" if each.fixed == "none" else f"{each.fixed}; {each.held_by} needs an older version"
        rows.append(
            f"| {names} | {each.package} {each.version} | {correction}; held by {each.held_by} | {each.summary} | "
            f"{_REACHABLE[each.reachable]} {each.reason} |"
        )
    return "\n".join(rows) + "\n"


def renewed(page: str) -> str:
    """The page with the table of today.

    Raises:
      PipelineError: The page lacks the marks around the table.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise PipelineError(f"{PAGE} has no table between '{BEGIN.strip()}' and '{END.strip()}': put both lines back")
    return f"{before}{BEGIN}\n{table(advisories.load())}\n{END}{after}"


def main() -> None:
    """Writes the page."""
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    run_stage(without_arguments(main))
