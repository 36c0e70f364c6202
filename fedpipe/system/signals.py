"""Ctrl-C and SIGTERM as exceptions, and blocks that they do not cut in two."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN_SECONDS = 0.1


class Stopped(KeyboardInterrupt):
    """The process was asked to end; ``number`` is the signal that asked."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = signal.Signals(number)


@contextmanager
def stoppable() -> Iterator[None]:
    """While the block runs, SIGINT, SIGTERM and SIGHUP raise `Stopped`, each unless it is ignored (as by ``nohup``).

    Only Ctrl-C counts more than once: a service manager may send the others several times, and the later ones must not
    disturb what the first one brings about.

    A signal that arrives in a destructor or in a callback of the garbage collector (JAX has one), where Python reports
    exceptions and continues, comes again a moment later.
    """
    came: set[int] = set()
    main, report = threading.get_ident(), sys.unraisablehook

    def stop(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT or number not in came:
            came.add(number)
            raise Stopped(number)

    def again(unraisable: "sys.UnraisableHookArgs") -> None:
        if not isinstance(unraisable.exc_value, Stopped):
            report(unraisable)
            return
        number = unraisable.exc_value.number
        came.discard(number)
        timer = threading.Timer(_AGAIN_SECONDS, signal.pthread_kill, (main, number))
        timer.daemon = True
        timer.start()

    before = {number: signal.signal(number, stop) for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN}
    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = report
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def held() -> Iterator[None]:
    """A signal that comes while the block runs takes effect at the block's end; keep such blocks short."""
    if threading.current_thread() is not threading.main_thread():  # which signals do not reach
        yield
        return
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    callables = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in callables:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in callables.items():
            signal.signal(number, handler)
        for each in came[:1]:
            callables[signal.Signals(each)](each, None)


@contextmanager
def blocked() -> Iterator[None]:
    """The kernel holds back signals that ask this thread to end until the block is done; for a few system calls."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
