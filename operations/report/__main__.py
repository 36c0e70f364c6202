"""``python -m operations.report [RUN [RUN]]``: one run, or two side by side, as a page that needs no network.

A RUN is "workspace" (the files as they are; the default), a git revision or the name of a DVC experiment (outputs
that are not in git come from DVC's cache, else its remote), or mlflow:<run id>. The second is compared to the first.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fedpipe.atomic import write_text
from fedpipe.command_line import make_command
from fedpipe.errors import run_stage
from operations.report import markdown, page, runs, sources

PAGE = Path("reports/report.html")


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the runs and writes the page, and the Markdown if asked for; ``arguments`` default to the process's."""
    options = _parse(arguments)
    reported = [runs.read(sources.find(run)) for run in options.runs or [sources.WORKSPACE]]
    write_text(options.output, page.render(reported))
    if options.markdown:
        write_text(options.markdown, markdown.render(reported))
    for run in reported:
        for sentence in (*run.stale, *run.missing.values()):
            print(f"report: {run.name}: {sentence}", file=sys.stderr)
    print(f"report: {' and '.join(run.name for run in reported)} in {options.output}", file=sys.stderr)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, **make_command("report", "RUNS"))
    parser.add_argument("runs", nargs="*", metavar="RUN")
    parser.add_argument("--output", type=Path, default=PAGE, help=f"the page, {PAGE} if not given")
    parser.add_argument("--markdown", type=Path, help="writes the differing params, the metrics and costs there too")
    options = parser.parse_args(arguments)
    if len(options.runs) > 2:
        parser.error("one run or two, not more")
    return options


if __name__ == "__main__":
    run_stage(main)
