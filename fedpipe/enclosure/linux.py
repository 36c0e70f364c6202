"""Calls of the C library that Python has no function for; one that fails is an OSError, as in ``os``."""

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> int:
    """Calls a function of the C library.

    Args:
      name: The function, such as ``unshare``.
      arguments: Integers, each passed as an unsigned long, and ctypes objects.

    Returns:
      The call's result.

    Raises:
      OSError: It returned -1.
    """
    converted = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments]
    result = int(getattr(_LIBC, name)(*converted))
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
