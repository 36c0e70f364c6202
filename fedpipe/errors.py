"""Errors of stages: one sentence with the fault, its place and the remedy."""

import signal
import sys
from collections.abc import Callable, Collection

from fedpipe import unmerged


class PipelineError(Exception):
    """Something the user can put right; its text is the whole message, without a traceback."""


class UsageError(PipelineError):
    """A command was given arguments that it does not take."""


class WorkersLostError(PipelineError):
    """No worker or site is left to compute a chunk; the training can resume later from a checkpoint."""


class SitesLostError(WorkersLostError):
    """Sites are not connected, or do not answer, for too long."""

    def __init__(self, message: str, sites: Collection[str]) -> None:
        """``sites``: their names."""
        super().__init__(message)
        self.sites = sorted(sites)


class DivergedError(PipelineError):
    """Updates or weights are not finite any more, which is a result of the training's params."""


class NothingTrainedError(PipelineError):
    """No client of a round had a batch to train on."""


def run_stage(main: Callable[[], None]) -> None:
    """Runs a stage's ``main`` and ends the process: 0, or 1 with one sentence, or 130 after Ctrl-C (143 after SIGTERM).

    Anything that is not a `PipelineError` or an error of the operating system is a defect of fedpipe and keeps its
    traceback; unless a merge has left conflicts in files that programs read, of which it is the consequence.
    """
    try:
        main()
    except PipelineError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        # Of two names, such as those of a copy, the second is the file that was written.
        name = error.filename2 or error.filename
        sys.exit(f"error: {error.strerror or error}" + (f" ({name})" if name else ""))
    except Exception:
        if files := unmerged.files():
            sys.exit(f"error: {unmerged.sentence(*files)}")
        raise
    except KeyboardInterrupt as stop:
        number = _number(stop)
        say_stopped(number)
        sys.exit(128 + number)


def say_stopped(number: int) -> None:
    """Confirms the stop by signal ``number`` to the person who sent it."""
    print(f"\n{_stopped_by(number)}; nothing half-written was left", file=sys.stderr, flush=True)


def stopped_by(stop: KeyboardInterrupt) -> str:
    """``stopped by Ctrl-C``, or by the signal that is the exception's ``number``, if it has one."""
    return _stopped_by(_number(stop))


def _number(stop: KeyboardInterrupt) -> int:
    return int(getattr(stop, "number", signal.SIGINT))


def _stopped_by(number: int) -> str:
    return f"stopped by {'Ctrl-C' if number == signal.SIGINT else signal.Signals(number).name}"
