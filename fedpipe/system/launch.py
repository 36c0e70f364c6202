"""Child processes that end with their parent, however that ends: the kernel signals them (PR_SET_PDEATHSIG).

A script of its own and not a `preexec_fn`: Python code between fork and exec crashes in a driver with gRPC's threads.

    python launch.py PARENT_PID SIGNAL USER BINARY [ARGUMENT ...]
"""

import ctypes
import os
import pwd
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def ending_with_us(command: Sequence[str], last: signal.Signals = signal.SIGKILL, user: str = "") -> list[str]:
    """The command line that runs ``command`` as a child of this process's calling thread, and ends it with that.

    Args:
      command: Path of a binary, and its arguments.
      last: The signal that the child gets when its parent is gone.
      user: The system's user to run it as, which only root may name; empty for this process's own.
    """
    return [sys.executable, "-S", __file__, str(os.getpid()), str(int(last)), user, *command]


def end_with_parent(parent: int, last: signal.Signals = signal.SIGKILL) -> None:
    """Makes the kernel send ``last`` to this process when its parent, ``parent``, ends; exits if that is gone already.

    Call it after the last change of user, which would undo it.
    """
    signal_when_parent_ends(last)
    if os.getppid() != parent:  # it was gone before the line above
        sys.exit(1)


def signal_when_parent_ends(last: signal.Signals) -> None:
    """Makes the kernel send ``last`` to this process when its parent ends, unless that is gone already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(last))


def _main() -> None:
    parent, last, user, *command = sys.argv[1:]
    if user:
        entry = pwd.getpwnam(user)
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    end_with_parent(int(parent), signal.Signals(int(last)))
    os.execv(command[0], command)


if __name__ == "__main__":
    _main()
