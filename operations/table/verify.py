"""``python -m operations.table.verify TABLE/CELL``, or ``make verify CELL=TABLE/CELL``: runs one cell anew.

Partition and training run again, whatever is in DVC's cache, and the SHA-256 of the weights is compared with the
recorded one. Nothing is tracked or written down. Stopped, it resumes when it is started again.
"""

import argparse
import sys
from typing import NoReturn

from fedpipe.command_line import make_command
from fedpipe.errors import PipelineError, run_stage
from fedpipe.provenance import collect, differences
from fedpipe.system.signals import stoppable
from operations import commands
from operations.table import definition, records
from operations.table.workspace import CODE, Workspace, base_params, require_committed_code

# What is there already is taken from DVC's cache (its sums are pinned in the code); the rest is computed.
_COMMANDS = (
    ("repro", "download"),
    ("repro", "--force", "--no-run-cache", "--single-item", "partition"),
    ("repro", "--force", "--no-run-cache", "--single-item", "train"),
)


def verify(name: str) -> None:
    """Runs the cell ``TABLE/CELL`` and compares.

    Raises:
      PipelineError: The cell does not exist or has no result, its params have changed, or the weights have other bits.
    """
    commit = require_committed_code()
    table_name, _, cell_name = name.partition("/")
    table = definition.load(table_name, base_params(commit))
    rows = records.read(table_name)
    if cell_name not in rows or cell_name not in table.params:
        raise PipelineError(
            f"'{name}' is no cell with a result: give TABLE/CELL, such as "
            f"{table_name}/{next(iter(rows), table.cells[0].name)}; there are results of {', '.join(rows) or 'none'}"
        )
    row = rows[cell_name]
    if row.outcome == "diverged":
        raise PipelineError(f"{name} diverged, so there are no weights to compare with")
    if changed := records.changed(records.read_params(table_name).get(cell_name, {}), table.params[cell_name]):
        raise PipelineError(
            f"{name} was run with other values of {', '.join(changed)} than the table has now: "
            f"`make table TABLE={table_name}` runs it anew"
        )
    (cell,) = (cell for cell in table.cells if cell.name == cell_name)
    workspace = Workspace(cell, "verify")
    workspace.prepare(commit, table.texts[cell_name])
    with stoppable():
        for command in _COMMANDS:
            _run(workspace, command)
    digest = workspace.weights_sha256()
    workspace.remove()
    workspace.close()
    if digest != row.weights_sha256:
        _differs(name, row, digest, commit)
    print(f"verify: {name}: same bits, SHA-256 {digest}")


def _run(workspace: Workspace, command: tuple[str, ...]) -> None:
    print(f"verify: dvc {' '.join(command)} ({workspace.log})", file=sys.stderr, flush=True)
    process = workspace.start(*command, tracking=False)
    try:
        process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise
    if process.returncode:
        raise PipelineError(f"`dvc {' '.join(command)}` failed: {workspace.failure()}")


def _differs(name: str, row: records.Row, digest: str, commit: str) -> NoReturn:
    recorded = records.read_machines().get(row.machine)
    if recorded is None:
        reasons = [f"{records.MACHINES} does not say what they were made with"]
    else:
        reasons = differences(recorded, collect())
    reasons += _code_changes(row.commit, commit)
    why = "; ".join(reasons) or "CPU, libraries and code are the recorded ones, so this is a defect worth reporting"
    raise PipelineError(
        f"{name}: other bits, SHA-256 {digest} where {row.weights_sha256} is recorded; what differs: {why}"
    )


def _code_changes(recorded: str, commit: str) -> list[str]:
    try:
        files = commands.git("diff", "--name-only", recorded, commit, "--", *CODE).splitlines()
    except PipelineError:
        return [f"the code of commit {recorded[:12]}, which is not in this clone"]
    return [f"code since commit {recorded[:12]}: {', '.join(files)}"] if files else []


def main() -> None:
    """Reads the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, **make_command("verify", "CELL"))
    parser.add_argument("cell", metavar="TABLE/CELL")
    verify(parser.parse_args().cell)


if __name__ == "__main__":
    run_stage(main)
