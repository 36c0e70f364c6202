"""Renews the table of advisories in docs/security.md, from operations/audit/advisories.yaml."""

from collections.abc import Sequence
from pathlib import Path

from fedpipe.command_line import without_arguments
from fedpipe.errors import run_stage
from operations import made_table
from operations.audit import advisories
from operations.audit.advisories import Advisory

PAGE = Path("docs/security.md")
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
        rows.append(
            f"| {names} | {each.package} {each.version} | {each.fixed}; held by {each.held_by} | {each.summary} | "
            f"{_REACHABLE[each.reachable]} {each.reason} |"
        )
    return "\n".join(rows) + "\n"


def renewed(page: str) -> str:
    """The page with the table of today.

    Raises:
      PipelineError: The page lacks the marks around the table.
    """
    return made_table.renewed(page, PAGE, "python -m operations.audit.page", table(advisories.load()))


def main() -> None:
    """Writes the page."""
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    run_stage(without_arguments(main))
