"""A wire between two network namespaces that delays every packet and loses some, for kernels without `tc netem`.

    python slow_wire.py PID:INTERFACE PID:INTERFACE MILLISECONDS LOSS

It makes an interface in the network namespace of each process, and carries packets between them, both ways, until it is
killed. It prints "up" once both are there.
"""

import ctypes
import fcntl
import os
import random
import select
import struct
import sys
import time
from collections import deque

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
LARGEST_PACKET = 65_536


def tap(pid: str, name: str) -> int:
    """A new interface in the network namespace of a process; what is read and written is packets."""
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(namespace, 0):
        raise OSError(ctypes.get_errno(), "setns")
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
    return descriptor


def main(one: str, other: str, milliseconds: str, loss: str) -> None:
    """Carry packets."""
    ends = [tap(*end.split(":")) for end in (one, other)]
    print("up", flush=True)
    delay, share, rng = float(milliseconds) / 1000, float(loss), random.Random(0)
    under_way = deque[tuple[float, int, bytes]]()
    while True:
        wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
        for end in select.select(ends, [], [], wait)[0]:
            packet = os.read(end, LARGEST_PACKET)
            if rng.random() >= share:
                under_way.append((time.monotonic() + delay, ends[1 - ends.index(end)], packet))
        while under_way and under_way[0][0] <= time.monotonic():
            _, end, packet = under_way.popleft()
            try:
                os.write(end, packet)
            except OSError:  # the interface is down, or its queue full: the packet is lost
                continue


if __name__ == "__main__":
    main(*sys.argv[1:])
