"""``python -m operations.federation audit``: what a site's audit log says, for a person."""

from pathlib import Path

from fedpipe.federation.audit_summary import read_audit

_NOTED = 16  # characters of a chain


def show_audit(file: Path, noted: str) -> None:
    """Prints a summary of each training, and whether the log is whole.

    Args:
      file: The log.
      noted: The beginning of the chain of a line that it once had; empty for none.

    Raises:
      PipelineError: The log is missing, or a line was changed or removed.
    """
    summaries, chain = read_audit(file, noted)
    for summary in summaries:
        for line in summary.lines():
            print(line)
    print(f"{file}: no line was changed or removed before the last one, whose chain is {chain[:_NOTED]}")
    if not noted:
        print("note the chain elsewhere: --noted CHAIN then shows that no line was removed at the end")
