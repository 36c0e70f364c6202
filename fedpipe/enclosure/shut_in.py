"""A script that shuts itself in and becomes the TFF worker, in a process of its own like ``fedpipe.system.launch``.

    python -I -S shut_in.py PARENT_PID WAYS PORT LISTENER CHANNEL BINARY [ARGUMENT ...]

WAYS are tried in their order, joined by commas; the first one that the system allows is taken:

- ``namespace``: the worker has a network of its own, and a filter that refuses outgoing connections. A second process
  in that network forwards the Unix socket LISTENER to PORT there.
- ``filter``: the filter also asks a second process to answer the worker's ``bind``, which gives it LISTENER.
- ``open``: nothing is shut. The second process forwards LISTENER to PORT, which all network interfaces have.

The second process ends with the worker. CHANNEL, a socket, tells the driver as JSON which way is taken, or why none
could be. It ends with the second process.
"""

import json
import os
import socket
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fedpipe.enclosure import bind_answers, forwarder, namespace, syscall_filter
from fedpipe.system.launch import end_with_parent


def _main() -> None:
    parent, ways, port, *descriptors = sys.argv[1:6]
    command = sys.argv[6:]
    listener, channel = (socket.socket(fileno=int(descriptor)) for descriptor in descriptors)
    for ours in (listener, channel):
        ours.set_inheritable(False)  # closes it when this process becomes the worker

    reasons: dict[str, str] = {}
    way = None
    for candidate in ways.split(","):
        reason = _why_not(candidate)
        if not reason:
            way = candidate
            break
        reasons[candidate] = reason
    channel.sendall(json.dumps({"way": way, "reasons": reasons}).encode())
    if way is None:
        sys.exit(1)
    if way == "filter":
        _shut_by_filter(listener)
    else:
        if way == "namespace":
            namespace.enter()
        if _is_second_process():
            forwarder.forward(listener, int(port))
        if way == "namespace":
            syscall_filter.install(ask_for_bind=False)
    end_with_parent(int(parent))
    os.execv(command[0], command)


def _shut_by_filter(listener: socket.socket) -> None:
    give, take = socket.socketpair()
    if _is_second_process():
        give.close()
        _, (notifications,), _, _ = socket.recv_fds(take, 1, 1)
        listener.setblocking(False)  # as gRPC expects its sockets
        bind_answers.answer(notifications, listener)
        sys.exit()
    notifications = syscall_filter.install(ask_for_bind=True)
    socket.send_fds(give, [b"."], [notifications])
    os.close(notifications)


def _is_second_process() -> bool:
    """Forks: True in the child, which ends with its parent, and False in that."""
    parent = os.getpid()
    if os.fork():
        return False
    end_with_parent(parent)
    return True


def _why_not(way: str) -> str:
    """Tries ``way`` in a process of its own, because it cannot be undone; returns why it fails, or ""."""
    output, child_output = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _try(way)
        except OSError as error:
            os.write(child_output, os.strerror(error.errno or 0).encode())
        os._exit(0)
    os.close(child_output)
    with os.fdopen(output) as stream:
        reason = stream.read()
    _, status = os.waitpid(child, 0)
    return reason or ("" if status == 0 else "a defect, which the log shows")


def _try(way: str) -> None:
    """Raises OSError if the system forbids ``way``."""
    if way == "namespace":
        namespace.enter()
        syscall_filter.install(ask_for_bind=False)
    elif way == "filter":
        bind_answers.require_kernel(syscall_filter.install(ask_for_bind=True))


if __name__ == "__main__":
    _main()
