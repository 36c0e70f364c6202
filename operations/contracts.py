"""Renews the tables of names at the end of docs/extending.md, from the contracts of fedpipe/contracts."""

import inspect
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from fedpipe.command_line import without_arguments
from fedpipe.contracts import partition, train
from fedpipe.contracts.choice import Choice, TrainChoice
from fedpipe.contracts.model import METRICS
from fedpipe.contracts.registry import Registry
from fedpipe.errors import run_stage
from operations import made_table

PAGE = Path("docs/extending.md")


def registries() -> list[Registry[Any]]:
    """All folders of choices."""
    return [*train.REGISTRIES.values(), METRICS, *partition.REGISTRIES.values()]


def tables() -> str:
    """A table of names for each folder, after those that folders share."""
    contracts: list[type[Choice]] = [Choice, TrainChoice, *(registry.contract for registry in registries())]
    return "\n".join(map(_table, contracts))


def renewed(page: str) -> str:
    """The page with the tables of today.

    Raises:
      PipelineError: The page lacks the marks around the tables.
    """
    return made_table.renewed(page, PAGE, "python -m operations.contracts", tables())


def _table(contract: type[Choice]) -> str:
    about = inspect.cleandoc(contract.__doc__ or "").replace("``", "`").replace("\n", " ")
    rows = [about, "", "| name | | meaning |", "| --- | --- | --- |"]
    for name in contract.__annotations__:
        declared = contract.names()[name]
        parameters, kind = declared.metadata.get("parameters"), declared.metadata.get("type")
        shown = name if parameters is None else f"{name}({', '.join(parameters)})"
        if kind is bool:
            shown = f"{name} = {not declared.default}"
        need = "required" if declared.default is MISSING else ""
        rows.append(f"| `{shown}` | {need} | {declared.metadata['doc']} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    """Writes the page if its tables change."""
    before = PAGE.read_text(encoding="utf-8")
    after = renewed(before)
    if after != before:
        PAGE.write_text(after, encoding="utf-8")
    print(f"contracts: {PAGE} has the names of {len(registries())} folders")


if __name__ == "__main__":
    run_stage(without_arguments(main))
