"""A system that forbids things: ``python forbidding.py NUMBER,... COMMAND ...`` refuses those system calls.

The command and all it starts get EPERM, as from a container's profile.
"""

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Sequence

UNSHARE, SECCOMP = 272, 317


def without(numbers: Sequence[int], command: Sequence[str]) -> list[str]:
    return [sys.executable, "-I", "-S", __file__, ",".join(map(str, numbers)), *command]


def main() -> None:
    numbers = [int(number) for number in sys.argv[1].split(",")]
    lines = [(0x20, 0, 0, 0)]
    lines += [(0x15, len(numbers) - index, 0, number) for index, number in enumerate(numbers)]
    lines += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | errno.EPERM)]
    code = b"".join(struct.pack("HBBI", *line) for line in lines)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxQ", len(lines), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    if libc.prctl(38, ctypes.c_ulong(1), zero, zero, zero) or libc.prctl(22, ctypes.c_ulong(2), program):
        sys.exit(os.strerror(ctypes.get_errno()))
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
