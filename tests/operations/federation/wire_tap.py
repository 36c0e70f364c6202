"""``python wire_tap.py FILE``: writes every frame of this network namespace's eth0 to FILE, as length and bytes."""

import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

_EVERY_PROTOCOL = 3  # ETH_P_ALL, linux/if_ether.h
_ETHERNET, _TCP = 14, 6


def tap(path: Path) -> None:
    """Until it is killed."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERY_PROTOCOL)) as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**24)
        wire.bind(("eth0", 0))
        with path.open("ab", buffering=0) as file:
            while True:
                frame = wire.recv(2**17)
                file.write(struct.pack("<I", len(frame)) + frame)


def frames(path: Path) -> Iterator[bytes]:
    """What a tap wrote."""
    content, place = path.read_bytes(), 0
    while place + 4 <= len(content):
        (size,) = struct.unpack_from("<I", content, place)
        yield content[place + 4 : place + 4 + size]
        place += 4 + size


def payload_from(path: Path, address: str) -> int:
    """The bytes that TCP carried from an IPv4 address."""
    total = 0
    for frame in frames(path):
        packet = frame[_ETHERNET:]
        if packet[:1] == b"\x45" and packet[9] == _TCP and packet[12:16] == socket.inet_aton(address):
            total += int.from_bytes(packet[2:4], "big") - 20 - 4 * (packet[32] >> 4)
    return total


if __name__ == "__main__":
    tap(Path(sys.argv[1]))
