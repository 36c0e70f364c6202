"""Answers the worker's ``bind``: whatever address it asks for, its socket becomes a Unix socket of this process.

So no port is opened, and the worker does not notice. Needs Linux 5.9. See seccomp_unotify(2).
"""

import errno
import fcntl
import os
import select
import socket
import struct

# linux/seccomp.h; an ioctl's number holds the size of its struct.
_NOTIFICATION_SIZE, _ANSWER, _ADDFD = 80, "=QqiI", "=QIIII"
_READ_WRITE, _WRITE = 0xC0000000, 0x40000000
_RECV = _READ_WRITE | _NOTIFICATION_SIZE << 16 | 0x2100
_SEND = _READ_WRITE | struct.calcsize(_ANSWER) << 16 | 0x2101
_PUT = _WRITE | struct.calcsize(_ADDFD) << 16 | 0x2103
_ADDFD_FLAG_SETFD = 1
_ARGUMENTS = 32  # offset of the call's arguments in a notification


def require_kernel(notifications: int) -> None:
    """Raises OSError if the kernel cannot exchange a socket (it is older than 5.9).

    Args:
      notifications: File descriptor of a filter, as `syscall_filter.install` returns it.
    """
    try:
        _put(notifications, 0, notifications, 0)
    except OSError as error:
        if error.errno != errno.ENOENT:  # no call has the id 0, so a kernel that knows the request says this
            raise


def answer(notifications: int, listener: socket.socket) -> None:
    """Answers each ``bind`` until the process behind the filter has ended.

    Args:
      notifications: File descriptor of its filter.
      listener: The listening Unix socket that it gets.
    """
    ready = select.poll()
    ready.register(notifications, select.POLLIN)
    while not any(events & select.POLLHUP for _, events in ready.poll()):
        notification = bytearray(_NOTIFICATION_SIZE)
        try:
            fcntl.ioctl(notifications, _RECV, notification, True)
            (identity,) = struct.unpack_from("=Q", notification)
            (replaced,) = struct.unpack_from("=Q", notification, _ARGUMENTS)
            _put(notifications, identity, listener.fileno(), replaced)
            fcntl.ioctl(notifications, _SEND, bytearray(struct.pack(_ANSWER, identity, 0, 0, 0)), True)
        except OSError as error:
            if error.errno != errno.ENOENT:  # the caller is gone
                raise


def _put(notifications: int, identity: int, descriptor: int, replaced: int) -> None:
    """Puts a file of this process in the place of the caller's file ``replaced``."""
    request = struct.pack(_ADDFD, identity, _ADDFD_FLAG_SETFD, descriptor, replaced, os.O_CLOEXEC)
    fcntl.ioctl(notifications, _PUT, request)
