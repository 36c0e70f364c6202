"""``python -m operations.table NAME``, or ``make table TABLE=NAME``: runs the cells of a table that have no result yet.

NAME is a file of operations/table/tables. Stopped or killed, it resumes where it was when it is started again. Results
go to docs/results, and docs/results.md is made from them (docs/tables.md).
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from fedpipe.command_line import make_command
from fedpipe.errors import PipelineError, run_stage
from fedpipe.system.children import Child
from fedpipe.system.signals import stoppable
from operations.table import definition, records, results
from operations.table.definition import Cell, Table
from operations.table.workspace import Workspace, base_params, require_committed_code

_POLL_SECONDS = 0.2
_NEWS_SECONDS = 30.0  # from one line about a running cell to the next
_CORES_PER_CELL = 2  # of which a training makes good use


@dataclass
class _Running:
    cell: Cell
    workspace: Workspace
    process: Child
    cpus: frozenset[int]
    printed: str = ""
    printed_at: float = 0.0


class Runner:
    """Runs cells, some at a time, and writes down each as it ends."""

    def __init__(self, table: Table, commit: str, jobs: int) -> None:
        self._table, self._commit = table, commit
        cores = sorted(os.sched_getaffinity(0))
        # Each job has cores of its own, or all jobs share all of them; results do not depend on it.
        self._free = [frozenset(cores[job::jobs] if jobs <= len(cores) else cores) for job in range(jobs)]
        self._running: list[_Running] = []
        self.failed: list[str] = []

    def run(self, cells: Sequence[Cell]) -> None:
        """Runs ``cells`` until all have ended."""
        waiting = list(cells)
        try:
            while waiting or self._running:
                while waiting and self._free:
                    self._start(waiting.pop(0))
                for running in list(self._running):
                    if running.process.poll() is not None:
                        self._running.remove(running)
                        self._free.append(running.cpus)
                        self._end(running)
                    else:
                        _news(running)
                time.sleep(_POLL_SECONDS)
        except KeyboardInterrupt:
            _say("stopping; cells that have ended are kept, and the same command resumes with the others")
            raise
        finally:
            self._stop()

    def _start(self, cell: Cell) -> None:
        workspace = Workspace(cell)
        begun = workspace.prepare(self._commit, self._table.texts[cell.name])
        _say(f"{cell.name}: {'resumes' if begun else 'begins'} ({workspace.log})")
        cpus = self._free.pop(0)
        process = workspace.start("repro", cpus=set(cpus))
        self._running.append(_Running(cell, workspace, process, cpus, printed_at=time.monotonic()))

    def _end(self, running: _Running) -> None:
        cell, workspace = running.cell, running.workspace
        if running.process.returncode and not workspace.has_diverged():
            self.failed.append(cell.name)
            _say(f"{cell.name}: failed: {workspace.failure()}")
            workspace.close()
            return
        row, curve, machine = workspace.result(self._commit)
        if row.outcome == "finished":
            workspace.save_experiment()
        records.add(self._table, row, curve, machine)
        results.write()
        _say(f"{cell.name}: {_outcome(row)}")
        workspace.remove()
        workspace.close()

    def _stop(self) -> None:
        """Ends what still runs; a training keeps its checkpoints."""
        for running in self._running:
            if running.process.poll() is None:
                running.process.terminate()
        for running in self._running:
            running.process.wait()
            running.workspace.close()


def _news(running: _Running) -> None:
    now = time.monotonic()
    if now - running.printed_at < _NEWS_SECONDS:
        return
    line, running.printed_at = running.workspace.last_line(), now
    if line != running.printed:
        running.printed = line
        _say(f"{running.cell.name}: {line}")


def _outcome(row: records.Row) -> str:
    if row.outcome == "diverged":
        return "diverged: the clients' updates were not finite"
    target = f", target reached in round {row.rounds_to_target}" if row.rounds_to_target else ""
    return f"{row.rounds} rounds, test accuracy {row.test_accuracy:.4f}{target}, weights {row.weights_sha256[:12]}"


def _jobs(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 64:
        raise ValueError
    return number


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, **make_command("table", "TABLE"))
    parser.add_argument("table", nargs="?", metavar="NAME", help="without it, lists the tables and renews the results")
    parser.add_argument("--cells", default="*", metavar="PATTERN", help="only those, such as 'iid_*_seed2024'")
    default = max(1, len(os.sched_getaffinity(0)) // _CORES_PER_CELL)
    parser.add_argument("--jobs", type=_jobs, default=default, help="cells at a time; one for every two cores")
    parser.add_argument("--list", action="store_true", help="say what is done and what is not, and run nothing")
    return parser.parse_args()


def main() -> None:
    """Checks the table, runs what has no result, and renews docs/results.md."""
    options = _parse()
    # To look, the code need not be the commit's.
    commit = "HEAD" if options.list or options.table is None else require_committed_code()
    base = base_params(commit)
    if options.table is None:
        for name in definition.names():
            table = definition.load(name, base)
            _say(f"{name}: {len(records.finished(table))} of {len(table.cells)} cells done: {table.definition.title}")
        results.write()
        return
    table = definition.load(options.table, base)
    chosen = table.choose(options.cells)
    done = records.finished(table)
    if options.list:
        for cell in chosen:
            print(f"{cell.name}: {_outcome(done[cell.name]) if cell.name in done else 'not run'}")
        return
    left = [cell for cell in chosen if cell.name not in done]
    _say(f"{table.name}: {len(chosen) - len(left)} of {len(chosen)} cells are done, {options.jobs} at a time")
    runner = Runner(table, commit, options.jobs)
    with stoppable():
        runner.run(left)
    results.write()
    if runner.failed:
        raise PipelineError(
            f"{len(runner.failed)} of {len(left)} cells failed (their words are above): {', '.join(runner.failed)}; "
            f"put that right, and `make table TABLE={table.name}` resumes"
        )
    _say(f"{table.name}: done; {results.PAGE} has the results")


def _say(line: str) -> None:
    print(f"table: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_stage(main)
