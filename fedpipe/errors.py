"""How a stage refuses: one sentence that says what is wrong, where, and what would be right."""

import sys
from collections.abc import Callable

STOPPED = 130  # the exit code after Ctrl-C


class PipelineError(Exception):
    """Something the user can put right; its text is the whole message, without a traceback."""


def run_stage(main: Callable[[], None]) -> None:
    """Runs a stage's ``main`` and ends the process: 0, or 1 with one sentence, or 130 after Ctrl-C.

    Anything that is not a `PipelineError` or an error of the operating system is a defect of ours
    and keeps its traceback.
    """
    try:
        main()
    except PipelineError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        # Of two names, such as those of a copy, the second is the file that was written.
        name = error.filename2 or error.filename
        sys.exit(f"error: {error.strerror or error}" + (f" ({name})" if name else ""))
    except KeyboardInterrupt:
        say_stopped()
        sys.exit(STOPPED)


def say_stopped() -> None:
    """Says what a person who pressed Ctrl-C wants to know."""
    print("\nstopped by Ctrl-C; nothing half-written was left", file=sys.stderr, flush=True)
