"""This machine's way to others, as the kernel tells it: read, and imported, in no time."""

from __future__ import annotations

import _socket
import fcntl
import struct

ROUTES_4, ROUTES_6 = "/proc/net/route", "/proc/net/ipv6_route"
SHARED = "/run/pybuild"
"""The folder of what all builds by root on this machine know together."""
LEGACY_TABLES = "/proc/net/ip_tables_names"
_USUAL_MTU = 1500
_SIOCGIFMTU = 0x8921


def device(routes: str = ROUTES_4) -> str:
    """Return the device of the default route, "": there is none."""
    try:
        with open(routes, encoding="ascii") as file:
            lines = [line.split() for line in file]
    except OSError:
        return ""
    for words in lines:
        if len(words) > 9 and set(words[0]) == {"0"} and words[1] == "00" and words[-1] != "lo":
            return words[-1]  # of version 6
        if len(words) > 7 and words[1] == words[7] == "00000000":
            return words[0]
    return ""


def small_mtu(device: str) -> int:
    """Return the greatest packet that gets out by a device, 0: the usual one."""
    try:
        (known,) = struct.unpack_from("=I", ask(device, _SIOCGIFMTU))
    except OSError:
        return 0
    return known if known < _USUAL_MTU else 0


def ask(device: str, question: int) -> bytes:
    """Return the kernel's answer to a question about a device (SIOCGIF…), 24 bytes.

    Raises:
        OSError: there is no such device, or it has no answer.
    """
    probe = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    try:
        request = struct.pack("16s24x", device.encode())
        return fcntl.ioctl(probe.fileno(), question, request)[16:]
    finally:
        probe.close()


def has_legacy_filter() -> bool:
    """Whether there are rules of iptables-legacy, which cannot be seen."""
    try:
        with open(LEGACY_TABLES, encoding="ascii") as file:
            return "filter" in file.read().split()
    except OSError:
        return False


def sysctl(name: str) -> str:
    """Return one of the kernel's settings of networks, "": it has none such."""
    try:
        with open(f"/proc/sys/net/{name}", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
