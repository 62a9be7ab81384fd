"""The kernel's part of a store's networks, made to be as the records say [NET-23, NET-25].

Callers hold the lock of the networks.
"""

from __future__ import annotations

import _socket
import os

from pybuild.cache.disk.locks import boot_id
from pybuild.executor.zygote.faults import ENVIRONMENT, Fault
from pybuild.networks import dockerchain, pools, records, rules, uplink, wayout
from pybuild.networks.firewall import firewall
from pybuild.networks.rtnetlink import Rtnetlink, index_of
from pybuild.networks.wayout import sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pybuild.networks.records import Network, NetworkEndpoint, NetworkFiles, Subnet


def ensure_bridge(
    store: NetworkFiles,
    network: Network,
    outside: Rtnetlink,
    warnings: list[str],
    *,
    is_alone: bool,
) -> tuple[Network, int]:
    """Return a network as it is now, and the number of its bridge, which is made if it is not there.

    Args:
        is_alone: this network namespace is the store's own, and so are all bridges in it.
    """
    index = index_of(network.bridge)
    if is_alone:
        if not index:
            _remove_strangers(store, outside)
            index = _make_bridge(store, network, outside, warnings)
    else:
        small = 0 if network.mtu else wayout.small_mtu(wayout.device())
        if not index:
            with uplink.alone():  # until others see its addresses
                network = _beside_others(store, network, outside)._replace(mtu=network.mtu or small)
                index = _make_bridge(store, network, outside, warnings)
        network = network._replace(mtu=network.mtu or small)
    # So that 127.0.0.1 of the host leads to published ports; what forges it is dropped.
    set_sysctl(f"ipv4/conf/{network.bridge}/route_localnet", "1")
    return network, index


def _make_bridge(
    store: NetworkFiles, network: Network, outside: Rtnetlink, warnings: list[str]
) -> int:
    outside.add_bridge(network.bridge, b"\x02\x42" + os.urandom(4), network.mtu)
    index = index_of(network.bridge)
    _forward(network)
    for endpoint in store.endpoints(network):  # it has vanished under these
        if index_of(endpoint.peer):
            outside.set_master(index_of(endpoint.peer), index)
    if not network.internal:
        warnings += _obstacles(store, network.bridge)
    for subnet in network.subnets:
        block = pools.Block(subnet.prefix)
        outside.add_address(index, pools.packed_address(subnet.gateway), block.prefix)
    outside.set_up(index)
    return index


def _beside_others(store: NetworkFiles, network: Network, outside: Rtnetlink) -> Network:
    """Return a network, which moves to another subnet if somebody on this machine has taken its own.

    It has none in the kernel while no container is on it, so that another store may have chosen the same.
    A subnet that somebody has given it stays.
    """
    if store.endpoints(network):
        return network
    foreign = [
        pools.Block(f"{pools.shown(int.from_bytes(address, 'big'), len(address) * 8)}/{prefix}")
        for address, prefix, _ in outside.prefixes()
    ]
    taken = [pools.Block(one.prefix) for known in store.networks() for one in known.subnets]
    subnets: list[Subnet] = []
    for subnet in network.subnets:
        block = pools.Block(subnet.prefix)
        is_fixed = subnet.given or block.bits == 128
        if not is_fixed and any(block.overlaps(one) for one in foreign):
            free = pools.free_pool([*foreign, *taken])
            if free is not None:
                subnet = subnet._replace(prefix=str(free), gateway=pools.first_address(free))
        subnets.append(subnet)
    if tuple(subnets) != network.subnets:
        network = network._replace(subnets=tuple(subnets))
        store.add(network)
    return network


def _remove_strangers(store: NetworkFiles, outside: Rtnetlink) -> None:
    """Remove the bridges of networks that were removed by somebody who cannot reach them."""
    known = {network.bridge for network in store.networks()}
    for _, name in _socket.if_nameindex():
        if name not in known and not name.startswith(("veth", "tap", "lo")):
            outside.remove_link(name)


def retire(store: NetworkFiles, network: Network) -> None:
    """Take a network out of the kernel unless a container is on it: nothing is left on an idle machine."""
    if not store.endpoints(network):
        remove_bridge(store, network)


def remove_bridge(store: NetworkFiles, network: Network) -> None:
    """Take a network out of the kernel, which has it if a container was on it; the table goes with the last."""
    if not network.bridge or not index_of(network.bridge):
        return
    others = (one.bridge for one in store.networks() if one.bridge and one.id != network.id)
    if any(map(index_of, others)):
        commands = rules.remove_network(store.table, _rules(network))
    else:
        commands = rules.drop(store.table)
    try:
        uplink.forget_by_docker(network.bridge)
        firewall().run(commands)
    except (OSError, Fault):
        pass  # it was never there, or is not any more
    with Rtnetlink() as outside:
        outside.remove_link(network.bridge)


def remove_deleted(places: Iterable[tuple[str, str]], kept: Collection[str]) -> None:
    """Take out of the kernel what is there of networks whose records were deleted: all tables but *kept*, and bridges."""
    for table, bridge in places:
        if not index_of(bridge):
            continue
        try:
            uplink.forget_by_docker(bridge)
            if table not in kept:
                firewall().run(rules.drop(table))
        except (OSError, Fault):
            pass  # it is not there any more
        with Rtnetlink() as outside:
            outside.remove_link(bridge)


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


def sweep(store: NetworkFiles, *, rebuild: bool = True, kept: Network | None = None) -> int:
    """Forget the endpoints whose containers have ended without a word; return how many.

    Args:
        kept: stays in the kernel: somebody is about to be on it.
    """
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
        if rebuild and not living and (kept is None or kept.id != network.id):
            try:
                remove_bridge(store, network)
            except PermissionError:
                pass  # it is in the pod, and we are not
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


def _obstacles(store: NetworkFiles, bridge: str) -> list[str]:
    """Return warnings about chains of others that keep containers from being reached; docker's is told of them."""
    try:
        listing = firewall().run("list chains")
        strict = rules.strict_chains(listing, store.table)
        if dockerchain.alone_drops(strict, listing):
            uplink.let_by_docker(listing, bridge)
            return []
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
