"""A network of its own for a process: nothing in it but a loopback interface that no other process can see.

See network_namespaces(7) and user_namespaces(7).
"""

import fcntl
import os
import socket
import struct
from pathlib import Path

from fedpipe.enclosure.linux import call

# linux/sched.h and linux/sockios.h
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


def enter() -> None:
    """Moves this process, which must have one thread, into a new network namespace, and brings up its loopback.

    An ordinary user gets a user namespace along with it, in which the user keeps the same id. Root gets none: in a
    user namespace, root would lose access to the files of other users.

    Whoever read files by a capability alone cannot do so any more: import everything before.

    Raises:
      OSError: The system forbids it.
    """
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        call("unshare", _CLONE_NEWNET)
    else:
        call("unshare", _CLONE_NEWUSER | _CLONE_NEWNET)
        # The kernel accepts a map of groups only where the process has given up changing them.
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            Path("/proc/self", name).write_bytes(text.encode())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))
