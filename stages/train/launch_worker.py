"""Becomes the TFF worker, after asking the kernel to end it with the driver; a script for stages/train/worker.py.

A script of its own and not a `preexec_fn`: Python code between fork and exec crashes in a driver with gRPC's threads.

    python launch_worker.py DRIVER_PID BINARY [ARGUMENT ...]
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):  # the driver was gone before the line above
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
