"""How a stage refuses: one sentence that says what is wrong, where, and what would be right."""

import signal
import sys
from collections.abc import Callable


class PipelineError(Exception):
    """Something the user can put right; its text is the whole message, without a traceback."""


def run_stage(main: Callable[[], None]) -> None:
    """Runs a stage's ``main`` and ends the process: 0, or 1 with one sentence, or 130 after Ctrl-C (143 after SIGTERM).

    Anything that is not a `PipelineError` or an error of the operating system is a defect of ours
    and keeps its traceback.
    """
    try:
        main()
    except PipelineError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        sys.exit(f"error: {error.strerror or error}{where}")
    except KeyboardInterrupt as stop:
        print(f"\n{stopped_by(stop)}; nothing half-written was left", file=sys.stderr)
        sys.exit(128 + getattr(stop, "number", signal.SIGINT))


def stopped_by(stop: KeyboardInterrupt) -> str:
    """``stopped by Ctrl-C``, or by the signal that is the exception's ``number``, if it has one."""
    number = getattr(stop, "number", signal.SIGINT)
    return f"stopped by {'Ctrl-C' if number == signal.SIGINT else signal.Signals(number).name}"
