"""The process of a stage: how it starts, what Ctrl-C does to it, and that it ends with the DVC that started it."""

import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from fedpipe import errors, installed
from fedpipe.errors import PipelineError, UsageError
from fedpipe.failure import Failure
from fedpipe.outputs.restore import restore_for_dvc
from fedpipe.system.launch import signal_when_parent_ends

_DEFAULTS = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}
_C_LIBRARY = "GLIBC_TUNABLES"  # chooses variants of exp, log and pow
_interrupted = False


def begin() -> None:
    """Call it first in the process, before the imports that take seconds.

    From here on, Ctrl-C, SIGTERM and SIGHUP end the process with a sentence, and the kernel ends it with the DVC that
    started it. A signal that whoever started us wants ignored stays ignored.
    """
    if _C_LIBRARY in os.environ:  # which was read before Python started, so it starts again
        del os.environ[_C_LIBRARY]
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    for number, default in _DEFAULTS.items():
        if signal.getsignal(number) is default:
            signal.signal(number, _end_now)
    if "DVC_STAGE" in os.environ:
        _end_with_dvc()


def require(libraries: Path) -> None:
    """Ends the process with a sentence if it lacks the packages of the lock ``libraries``, or may start no thread."""
    try:
        installed.require(libraries)
        _require_threads()
        _warn_of_shallow_clone()
    except PipelineError as error:
        restore_for_dvc()
        sys.exit(f"error: {error}")


def _warn_of_shallow_clone() -> None:
    """DVC experiments are commits, which DVC loses where git has cut the history."""
    here = Path.cwd()
    if "DVC_EXP_NAME" in os.environ and any((folder / ".git/shallow").is_file() for folder in (here, *here.parents)):
        print(
            "warning: in a shallow clone DVC loses the results of experiments: run `git fetch --unshallow` first",
            file=sys.stderr,
        )


def _require_threads() -> None:
    """Else OpenBLAS sends the process a Ctrl-C."""
    thread = threading.Thread(target=int)
    try:
        thread.start()
    except RuntimeError:
        raise PipelineError(
            "the system lets this process start no thread: `ulimit -u` is too low, or the container's seccomp filter "
            "forbids clone3 (update the container runtime: Docker 20.10.10 allows it)"
        ) from None
    thread.join()


def run_stage(main: Callable[[], None], failure: Path) -> None:
    """As `fedpipe.errors.run_stage`; if the stage does not succeed, the outputs that DVC deleted come back.

    Ctrl-C is an exception from here on. SIGTERM and SIGHUP end the process at once, unless the stage handles them.

    Args:
      main: The stage's work.
      failure: The file for the stage's error (fedpipe/failure.py); that of an earlier stage is removed.
    """
    failure.unlink(missing_ok=True)
    if signal.getsignal(signal.SIGINT) is _end_now:
        signal.signal(signal.SIGINT, _interrupt)
        sys.unraisablehook = _not_lost

    def interruptible() -> None:
        try:
            main()
        except BaseException as error:
            if _interrupted:  # whatever a library made of it
                raise KeyboardInterrupt from None
            if isinstance(error, PipelineError) and not isinstance(error, UsageError):  # the stage did not begin
                Failure.write(error, failure)
            raise

    try:
        errors.run_stage(interruptible)
    except BaseException:
        restore_for_dvc()
        raise


def _end_now(number: int, _: FrameType | None) -> None:
    """Ends at once: an exception in the middle of an import can become any other one, or none."""
    signal.signal(number, signal.SIG_DFL)
    errors.say_stopped(number)
    restore_for_dvc()
    os._exit(128 + number)


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _interrupted
    _interrupted = True
    signal.default_int_handler(number, frame)


def _not_lost(unraisable: "sys.UnraisableHookArgs") -> None:
    """A Ctrl-C that comes while Python clears up an object would be dropped: it is sent again."""
    if unraisable.exc_type is KeyboardInterrupt:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(unraisable)


def _end_with_dvc() -> None:
    """Lets the kernel kill this process when its parent ends, and a thread when DVC does, if that is not the parent.

    A shell between them (fish, or a wrapper script) would still wait for this process when DVC is gone.
    """
    signal_when_parent_ends(signal.SIGKILL)
    parent = os.getppid()
    dvc = _dvc(parent)
    # Whoever adopts orphans is in another process group; a stage is in DVC's.
    if os.getpgid(dvc) != os.getpgrp():
        sys.exit("error: the DVC process that started this stage has ended, so the stage does not begin")
    if dvc != parent:
        threading.Thread(target=_end_with, args=(os.pidfd_open(dvc),), daemon=True).start()


def _dvc(parent: int) -> int:
    """The nearest ancestor that was not started with our DVC_STAGE: DVC, which sets it for its stages."""
    ours, pid = f"DVC_STAGE={os.environ['DVC_STAGE']}".encode(), parent
    try:
        while ours in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            # The name before it may hold spaces and brackets.
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # another user's process, or one that just ended
        return parent
    return pid


def _end_with(process: int) -> None:
    poll: Any = select.poll()
    poll.register(process, select.POLLIN)
    poll.poll()
    os.kill(os.getpid(), signal.SIGKILL)
