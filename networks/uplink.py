"""This machine's way to others, and the packet filters of others on it, as networks of builds and of containers see them."""

from __future__ import annotations

import _socket
import fcntl
import os
import struct

from pybuild.model.lightlib import contextmanager
from pybuild.networks import buildrules, dockerchain
from pybuild.networks.firewall import firewall
from pybuild.networks.rules import strict_chains

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

ROUTES_4, ROUTES_6 = "/proc/net/route", "/proc/net/ipv6_route"
_LOCKS = "/run/pybuild"
_USUAL_MTU = 1500
_SIOCGIFMTU = 0x8921


@contextmanager
def alone() -> Generator[None]:
    """Keep others from choosing a subnet at the same time; where there is no place for a lock, do without."""
    try:
        try:
            os.mkdir(_LOCKS, 0o700)
        except FileExistsError:
            pass
        lock = os.open(f"{_LOCKS}/buildnetwork", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def obstacle(listing: str) -> str:
    """Return why packets of bridges would be lost, "": they would not.

    Args:
        listing: what ``list chains`` printed.
    """
    strict = strict_chains(listing, buildrules.TABLE)
    if "table inet firewalld " in listing:
        return "firewalld lets no packets pass that it does not know"
    if strict and not dockerchain.alone_drops(strict, listing):
        return f"the packet filter's chain {strict[0]} drops what is not allowed there"
    try:
        with open("/proc/net/ip_tables_names", encoding="ascii") as file:
            names = file.read().split()
    except OSError:
        names = []
    return "iptables-legacy has rules, which cannot be seen" if "filter" in names else ""


def let_by_docker(listing: str, bridge: str) -> None:
    """Let packets of a bridge pass where docker has all dropped; *listing* is what ``list chains`` printed."""
    if dockerchain.decides(listing):
        known = firewall()
        if commands := dockerchain.let_pass(bridge, known.run(dockerchain.LISTED)):
            known.run(commands)


def forget_by_docker(bridge: str) -> None:
    """Take a bridge out of docker's chain, if it is in there."""
    known = firewall()
    if dockerchain.decides(known.run("list chains")):
        listed = known.run(dockerchain.LISTED, numbers=True)
        if commands := dockerchain.take_back(bridge, listed):
            known.run(commands)


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
        probe = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
        try:
            answer = fcntl.ioctl(
                probe.fileno(), _SIOCGIFMTU, struct.pack("16sI12x", device.encode(), 0)
            )
        finally:
            probe.close()
    except OSError:
        return 0
    (known,) = struct.unpack_from("16xI", answer)
    return known if known < _USUAL_MTU else 0
