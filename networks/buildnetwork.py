"""The network of builds: one bridge of the machine, behind which steps have namespaces of their own.

It is the same for all stores and builds, made by the first that needs it, and stays, as a bridge without
anybody on it and a table of the packet filter: 3 ms for the next build.
"""

from __future__ import annotations

import _socket
import fcntl
import os
import struct

from pybuild.executor.steps.spec import Connecting
from pybuild.executor.zygote import syscalls
from pybuild.executor.zygote.faults import ENVIRONMENT, Fault, describe_os_error
from pybuild.model.lightlib import contextmanager
from pybuild.networks import buildrules, buildspaces, pools
from pybuild.networks.firewall import firewall
from pybuild.networks.kernelstate import set_sysctl, sysctl
from pybuild.networks.rtnetlink import Rtnetlink, index_of
from pybuild.networks.rules import strict_chains

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

    from pybuild.model.border import WorkerCall

BRIDGE = buildrules.BRIDGE
_MAKE = f"{buildspaces.make.__module__}:{buildspaces.make.__name__}"
_LOCKS = "/run/pybuild"
_USUAL_MTU = 1500
_SIOCGIFMTU = 0x8921


def prepare(call: WorkerCall, server: str) -> Connecting:
    """Have the network in the kernel; return how steps get to it.

    Args:
        server: a name server that only this machine reaches, to be asked for steps; "": none.

    Raises:
        Fault: environment; this machine cannot have it, for the reason that is its message.
    """
    try:
        with _alone(), Rtnetlink() as kernel:
            return _prepare(kernel, server)
    except OSError as error:
        raise Fault(ENVIRONMENT, describe_os_error(error, "no bridge can be made")) from error


def _prepare(kernel: Rtnetlink, server: str) -> Connecting:
    listing = firewall().run("list chains")
    if obstacle := _obstacle(listing):
        raise Fault(ENVIRONMENT, obstacle)
    if buildrules.has_dockers_chain(listing):
        known = firewall().run(buildrules.DOCKERS_CHAIN)
        if BRIDGE not in known:
            firewall().run(buildrules.LET_BY_DOCKER)
    device = _way_out("/proc/net/route")
    if not device and _way_out("/proc/net/ipv6_route"):
        raise Fault(ENVIRONMENT, "this machine reaches others by IPv6 alone")
    mtu = _mtu(device)
    gateway, subnet = _bridge(kernel, mtu)
    routes = sysctl("ipv4/ip_forward") == "1" and not buildrules.is_guarded(listing)
    set_sysctl("ipv4/ip_forward", "1")
    if sysctl("ipv4/ip_forward") != "1":
        raise Fault(ENVIRONMENT, "net.ipv4.ip_forward cannot be set to 1")
    if server:
        set_sysctl(f"ipv4/conf/{BRIDGE}/route_localnet", "1")
    table = buildrules.table(gateway, str(subnet), server, guarded=not routes)
    words = (BRIDGE, gateway, str(subnet), str(mtu))
    if not buildrules.is_as_made(table, _listed(listing)):
        firewall().run(table)
        syscalls.close_quietly(*buildspaces.make(*words))  # who cannot is not to find a mark
        firewall().run(buildrules.mark(table, _listed(f"table inet {buildrules.TABLE} ")))
    return Connecting(_MAKE, words, gateway)


def _listed(chains: str) -> str:
    """Return the table as it is, "": there is none among *chains*."""
    is_there = f"table inet {buildrules.TABLE} " in chains
    return firewall().run(f"list table inet {buildrules.TABLE}") if is_there else ""


@contextmanager
def _alone() -> Generator[None]:
    """Keep others from making it at the same time; where there is no place for a lock, do without."""
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


def _bridge(kernel: Rtnetlink, mtu: int) -> tuple[str, pools.Block]:
    """Return the address and the subnet of the bridge, which is made if it is not there."""
    index = index_of(BRIDGE)
    if not index:
        kernel.add_bridge(BRIDGE, b"\x02\x42" + os.urandom(4), mtu)
        index = index_of(BRIDGE)
        set_sysctl(f"ipv6/conf/{BRIDGE}/disable_ipv6", "1")
    blocks: list[pools.Block] = []
    for packed, prefix, at in kernel.prefixes():
        address = pools.shown(int.from_bytes(packed, "big"), len(packed) * 8)
        block = pools.Block(f"{address}/{prefix}")
        if at == index and len(packed) == 4 and address == pools.first_address(block):
            kernel.set_up(index)
            return address, block
        blocks.append(block)
    free = pools.free_pool(blocks)
    if free is None:
        raise Fault(ENVIRONMENT, "no subnet is free on this machine")
    gateway = pools.first_address(free)
    kernel.add_address(index, pools.packed_address(gateway), free.prefix)
    kernel.set_up(index)
    return gateway, free


def _obstacle(listing: str) -> str:
    """Return why packets of steps would be lost, "": they would not."""
    strict = strict_chains(listing, buildrules.TABLE)
    if "table inet firewalld " in listing:
        return "firewalld lets no packets pass that it does not know"
    if strict and not (strict == ["ip filter FORWARD"] and buildrules.has_dockers_chain(listing)):
        return f"the packet filter's chain {strict[0]} drops what is not allowed there"
    try:
        with open("/proc/net/ip_tables_names", encoding="ascii") as file:
            names = file.read().split()
    except OSError:
        names = []
    return "iptables-legacy has rules, which cannot be seen" if "filter" in names else ""


def _way_out(routes: str) -> str:
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


def _mtu(device: str) -> int:
    """Return the greatest packet that gets out, 0: the usual one."""
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
