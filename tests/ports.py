"""Ports of this machine, for programs that must be given one before they bind it."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_MOST = 16_000
_CHANCE = random.SystemRandom()  # hypothesis gives every process the same other one


def free_ports(count: int = 1) -> list[int]:
    """Return ports of 127.0.0.1 that are free, and that the kernel gives to nobody who asks for any.

    Of those it gives out, every connection of any process may have one before the program starts.
    """
    first = int(_RANGE.read_text().split()[0])
    own = range(max(1024, first - _MOST), first)
    found: list[int] = []
    with ExitStack() as stack:
        while len(found) < count:
            probe = stack.enter_context(socket.socket())
            with suppress(OSError):
                probe.bind(("127.0.0.1", _CHANCE.choice(own)))
                found.append(int(probe.getsockname()[1]))
    return found
