"""The system calls that the worker may not make: a seccomp filter, which stays for good and holds for all its threads.

The filter refuses every way to open a connection: ``connect``, data that opens one on its way (TCP fast open), sockets
that need none (UDP, raw and others), and io_uring, which would go past the filter. It can also hold each ``bind``
until another process answers it. See seccomp(2), seccomp_unotify(2) and linux/filter.h.
"""

import ctypes
import errno
import socket
import struct

from fedpipe.enclosure.linux import call

# Each instruction is one of these with an operand, and a jump names where to go if it is true, and if not.
_LOAD, _AND, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
_Instruction = tuple[int, int] | tuple[int, int, str, str]

# What can be loaded, struct seccomp_data: the number of the call, the architecture, and the arguments.
_NUMBER, _ARCHITECTURE = 0, 4
_ARGUMENT = [16 + 8 * index for index in range(6)]

_X86_64 = 0xC000003E
_X32_BIT = 0x40000000  # numbers from here on are those of a second interface
_SOCKET, _CONNECT, _SENDTO, _SENDMSG, _BIND, _SECCOMP, _SENDMMSG, _IO_URING_SETUP = 41, 42, 44, 46, 49, 317, 307, 425
_MSG_FASTOPEN = 0x20000000
_SOCKET_KIND = 0xF  # the other bits of a socket's type are flags

_ALLOW = 0x7FFF0000
_ASK = 0x7FC00000
_REFUSE = 0x00050000 | errno.EACCES

_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_FILTER_FLAG_NEW_LISTENER = 1 << 3


def install(ask_for_bind: bool) -> int:
    """Puts this process, which must have one thread, and what it executes behind the filter.

    Args:
      ask_for_bind: Whether each ``bind`` waits for an answer; otherwise it is allowed.

    Returns:
      The file descriptor from which ``bind`` is answered; 0 if it is not asked for.

    Raises:
      OSError: The system forbids filters, or already has one that asks.
    """
    call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)  # without it, only root may
    code = _assemble(_source(ask_for_bind))
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.addressof(buffer))
    flags = _SECCOMP_FILTER_FLAG_NEW_LISTENER if ask_for_bind else 0
    return call("syscall", _SECCOMP, _SECCOMP_SET_MODE_FILTER, flags, ctypes.byref(program))


class _Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def _source(ask_for_bind: bool) -> list[_Instruction | str]:
    """The filter; a string is the name of the place where it stands, and "" in a jump is the next instruction."""
    return [
        (_LOAD, _ARCHITECTURE),
        (_IF_EQUAL, _X86_64, "", "refuse"),
        (_LOAD, _NUMBER),
        (_IF_AT_LEAST, _X32_BIT, "refuse", ""),
        (_IF_EQUAL, _CONNECT, "refuse", ""),
        (_IF_EQUAL, _IO_URING_SETUP, "refuse", ""),
        (_IF_EQUAL, _BIND, "ask" if ask_for_bind else "allow", ""),
        (_IF_EQUAL, _SOCKET, "socket", ""),
        (_IF_EQUAL, _SENDTO, "sendto", ""),
        (_IF_EQUAL, _SENDMSG, "sendmsg", ""),
        (_IF_EQUAL, _SENDMMSG, "sendmmsg", "allow"),
        "sendto",
        (_LOAD, _ARGUMENT[3]),
        (_IF_ANY_BIT, _MSG_FASTOPEN, "refuse", "allow"),
        "sendmsg",
        (_LOAD, _ARGUMENT[2]),
        (_IF_ANY_BIT, _MSG_FASTOPEN, "refuse", "allow"),
        "sendmmsg",
        (_LOAD, _ARGUMENT[3]),
        (_IF_ANY_BIT, _MSG_FASTOPEN, "refuse", "allow"),
        "socket",
        (_LOAD, _ARGUMENT[0]),
        (_IF_EQUAL, socket.AF_INET, "kind", ""),
        (_IF_EQUAL, socket.AF_INET6, "kind", "refuse"),
        "kind",
        (_LOAD, _ARGUMENT[1]),
        (_AND, _SOCKET_KIND),
        (_IF_EQUAL, socket.SOCK_STREAM, "", "refuse"),
        (_LOAD, _ARGUMENT[2]),
        (_IF_EQUAL, 0, "allow", ""),
        (_IF_EQUAL, socket.IPPROTO_TCP, "allow", "refuse"),
        "ask",
        (_RETURN, _ASK),
        "refuse",
        (_RETURN, _REFUSE),
        "allow",
        (_RETURN, _ALLOW),
    ]


def _assemble(source: list[_Instruction | str]) -> bytes:
    places: dict[str, int] = {}
    instructions: list[_Instruction] = []
    for line in source:
        if isinstance(line, str):
            places[line] = len(instructions)
        else:
            instructions.append(line)
    code = b""
    for index, (operation, operand, *targets) in enumerate(instructions):
        jumps = [places[target] - index - 1 if target else 0 for target in targets] or [0, 0]
        code += struct.pack("HBBI", operation, *jumps, operand)
    return code
