"""The kernel's part of a store's networks, made to be as the records say [NET-23, NET-25].

Callers hold the lock of the networks.
"""

from __future__ import annotations

import _socket
import os

from pybuild.cache.disk.locks import boot_id
from pybuild.executor.zygote.faults import ENVIRONMENT, Fault
from pybuild.networks import pools, records, rules
from pybuild.networks.firewall import firewall
from pybuild.networks.rtnetlink import Rtnetlink, index_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.networks.records import Network, NetworkEndpoint, NetworkFiles


def ensure_bridge(
    store: NetworkFiles,
    network: Network,
    outside: Rtnetlink,
    warnings: list[str],
    *,
    is_alone: bool,
) -> int:
    """Return the number of a network's bridge, which is made if it is not there.

    Args:
        is_alone: this network namespace is the store's own, and so are all bridges in it.
    """
    index = index_of(network.bridge)
    if not index:
        if is_alone:
            _remove_strangers(store, outside)
        outside.add_bridge(network.bridge, b"\x02\x42" + os.urandom(4), network.mtu)
        index = index_of(network.bridge)
        _forward(network)
        for endpoint in store.endpoints(network):  # it has vanished under these
            if index_of(endpoint.peer):
                outside.set_master(index_of(endpoint.peer), index)
        if not network.internal:
            warnings += _obstacles(store)
    for subnet in network.subnets:
        block = pools.Block(subnet.prefix)
        outside.add_address(index, pools.packed_address(subnet.gateway), block.prefix)
    outside.set_up(index)
    # So that 127.0.0.1 of the host leads to published ports; what forges it is dropped.
    set_sysctl(f"ipv4/conf/{network.bridge}/route_localnet", "1")
    return index


def _remove_strangers(store: NetworkFiles, outside: Rtnetlink) -> None:
    """Remove the bridges of networks that were removed by somebody who cannot reach them."""
    known = {network.bridge for network in store.networks()}
    for _, name in _socket.if_nameindex():
        if name not in known and not name.startswith(("veth", "tap", "lo")):
            outside.remove_link(name)


def remove_bridge(store: NetworkFiles, network: Network) -> None:
    """Take a network out of the kernel, which has it if a container was on it."""
    if not index_of(network.bridge):
        return
    try:
        firewall().run(rules.remove_network(store.table, _rules(network)))
    except (OSError, Fault):
        pass  # it was never there, or is not any more
    with Rtnetlink() as outside:
        outside.remove_link(network.bridge)


def publish(store: NetworkFiles, network: Network, endpoint: NetworkEndpoint) -> None:
    """Let the packet filter know of an endpoint, and of its network.

    Raises:
        Fault: environment; it cannot be had.
    """
    ports = published(endpoint)
    text = rules.add_network(store.table, _rules(network)) + rules.add_ports(store.table, ports)
    try:
        firewall().run(text)
    except OSError:
        # No table yet, or a port of somebody who ended without a word: all of it anew.
        sweep(store, rebuild=False)
        _rebuild(store)


def unpublish(store: NetworkFiles, endpoint: NetworkEndpoint) -> None:
    """Have the ports of an endpoint lead nowhere."""
    ports = published(endpoint)
    if not ports:
        return
    try:
        firewall().run(rules.remove_ports(store.table, ports))
    except OSError:
        pass  # not there any more: the next who publishes makes the table anew
    except Fault:
        pass  # nor is nftables


def sweep(store: NetworkFiles, *, rebuild: bool = True) -> int:
    """Forget the endpoints whose containers have ended without a word; return how many."""
    boot = boot_id() or ""
    dropped = 0
    for network in store.networks():
        living: set[str] = set()
        for endpoint in store.endpoints(network):
            if records.is_living(endpoint, boot):
                living.add(endpoint.container)
            else:
                if rebuild:
                    unpublish(store, endpoint)
                store.drop(network, endpoint)
                dropped += 1
        for address, container in store.leases(network).items():
            if container not in living:
                store.release_lease(network, address)
    store.forget_helpers()
    return dropped


def published(endpoint: NetworkEndpoint) -> list[rules.Published]:
    """Return the ports of an endpoint that packets can be led to."""
    ports: list[rules.Published] = []
    for port in endpoint.ports:
        to = endpoint.address(6 if ":" in port.address else 4)
        if to and port.address != "::1":
            ports.append(rules.Published(port.protocol, port.address, port.port, to, port.to_port))
    return ports


def _rebuild(store: NetworkFiles) -> None:
    networks = [one for one in store.networks() if one.bridge]
    ports = [published(endpoint) for one in networks for endpoint in store.endpoints(one)]
    present = [_rules(one) for one in networks if index_of(one.bridge)]
    try:
        firewall().run(rules.whole(store.table, present, ports))
    except OSError as error:
        raise Fault(
            ENVIRONMENT,
            f"cannot set up the packet filter: {error.strerror}",
            ("a container without a network of its own goes without: --network host, or none",),
        ) from error


def _rules(network: Network) -> rules.BridgeRules:
    subnets = tuple(subnet.prefix for subnet in network.subnets) if network.hides else ()
    return rules.BridgeRules(network.bridge, subnets, network.internal, network.talks)


def _forward(network: Network) -> None:
    """Have the kernel pass on what is not for this machine."""
    if network.internal:
        return
    set_sysctl("ipv4/ip_forward", "1")
    if network.ipv6:
        for device in os.listdir("/proc/sys/net/ipv6/conf"):
            # A machine that forwards takes no more routes from its own router, unless it is told to.
            if sysctl(f"ipv6/conf/{device}/accept_ra") == "1":
                set_sysctl(f"ipv6/conf/{device}/accept_ra", "2")
        set_sysctl("ipv6/conf/all/forwarding", "1")


def _obstacles(store: NetworkFiles) -> list[str]:
    """Return warnings about chains of others that keep containers from being reached."""
    try:
        strict = rules.strict_chains(firewall().run("list chains"), store.table)
    except (OSError, Fault):
        return []
    return [
        f"the packet filter's chain {chain} drops what is not allowed there: containers may reach "
        "nobody, and nobody them, until it lets them"
        for chain in strict
    ]


def set_sysctl(name: str, value: str) -> None:
    """Set one of the kernel's settings of networks, if it is not so already; where it cannot be, it stays."""
    try:
        if sysctl(name) != value:
            with open(f"/proc/sys/net/{name}", "w", encoding="ascii") as file:
                file.write(value)
    except OSError:
        pass


def sysctl(name: str) -> str:
    """Return one of the kernel's settings of networks, "": it has none such."""
    try:
        with open(f"/proc/sys/net/{name}", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
