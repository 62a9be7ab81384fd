"""The network of builds: one bridge of the machine, behind which steps have namespaces of their own.

It is the same for all stores and builds, made by the first that needs it, and stays, as a bridge without
anybody on it and a table of the packet filter: the next build looks at it, or sees that nothing has
changed (`lastbuild`).
"""

from __future__ import annotations

import os

from pybuild.executor.steps.spec import Connecting
from pybuild.executor.zygote import syscalls
from pybuild.executor.zygote.faults import ENVIRONMENT, Fault, describe_os_error
from pybuild.networks import buildrules, buildspaces, lastbuild, pools, uplink, wayout
from pybuild.networks.firewall import firewall
from pybuild.networks.kernelstate import set_sysctl
from pybuild.networks.rtnetlink import Rtnetlink, index_of
from pybuild.networks.wayout import sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.model.border import WorkerCall

BRIDGE = buildrules.BRIDGE


def prepare(call: WorkerCall, server: str) -> Connecting:
    """Have the network in the kernel; return how steps get to it.

    Args:
        server: a name server that only this machine reaches, to be asked for steps; "": none.

    Raises:
        Fault: environment; this machine cannot have it, for the reason that is its message.
    """
    try:
        with uplink.alone(), Rtnetlink() as kernel:
            return _prepare(kernel, server)
    except OSError as error:
        raise Fault(ENVIRONMENT, describe_os_error(error, "no bridge can be made")) from error


def _prepare(kernel: Rtnetlink, server: str) -> Connecting:
    number = lastbuild.generation()
    listing = firewall().run("list chains")
    if obstacle := uplink.obstacle(listing):
        raise Fault(ENVIRONMENT, obstacle)
    uplink.let_by_docker(listing, BRIDGE)
    device = wayout.device()
    if not device and wayout.device(wayout.ROUTES_6):
        raise Fault(ENVIRONMENT, "this machine reaches others by IPv6 alone")
    mtu = wayout.small_mtu(device)
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
    way = Connecting(lastbuild.MAKE, words, gateway)
    lastbuild.note(wayout.SHARED, number, server, way, guarded=not routes)
    return way


def _listed(chains: str) -> str:
    """Return the table as it is, "": there is none among *chains*."""
    is_there = f"table inet {buildrules.TABLE} " in chains
    return firewall().run(f"list table inet {buildrules.TABLE}") if is_there else ""


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
