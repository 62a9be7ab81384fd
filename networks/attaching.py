"""A container's own network namespace brought to its networks, and all of that given back.

For the monitor of the container; whoever ends in between leaves a record, by which the next who comes
here cleans up. Each change is made under the lock of all networks of the store, which is held for
milliseconds.
"""

from __future__ import annotations

import errno
import os

from pybuild.cache.content.syncer import boot_id
from pybuild.cache.disk.locks import locked
from pybuild.executor.zygote.faults import ENVIRONMENT, USER, Fault, describe_os_error
from pybuild.networks import kernelstate, pools, ports, records
from pybuild.networks.rtnetlink import Inside, Rtnetlink, index_of, namespace_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.networks.order import EndpointOrder, NetworkOrder
    from pybuild.networks.records import Network, NetworkEndpoint, NetworkFiles

_LOOPBACK = 1


class Attachment:
    """The endpoints of a running container.

    Attributes:
        places: a network and the endpoint on it, in the order of the container's devices; the default
            route is by the first that has one.
        held: its published ports.
        warnings: what the user should know.
    """

    def __init__(self, store: NetworkFiles, namespace: int) -> None:
        self.store = store
        self.namespace = namespace
        self.places: list[tuple[Network, NetworkEndpoint]] = []
        self.held: list[ports.HeldPort] = []
        self.warnings: list[str] = []

    def close(self) -> None:
        """Let go of what this process has of it."""
        ports.release(self.held)
        self.held = []
        if self.namespace >= 0:
            os.close(self.namespace)
            self.namespace = -1

    def has_names(self) -> bool:
        """Whether containers are found by name on one of its networks [NET-10, NET-11]."""
        return any(network.is_user_defined for network, _ in self.places)


def attach(order: NetworkOrder, pid: int) -> Attachment:
    """Bring the network namespace of process *pid*, which is new, to its networks.

    Raises:
        Fault, OSError: it cannot be; nothing is left of it.
    """
    store = records.NetworkFiles(order.folder)
    namespace = namespace_of(pid)
    made = Attachment(store, namespace)
    try:
        with locked(store.lock):
            found = [(store.find(one.network), one) for one in order.endpoints]
            _check_networks([network for network, _ in found])
            for network, _ in found:  # a run before, whose helper was killed: its ports lead astray
                _leave(store, network, order.container)
            found.sort(key=_precedence)
            main = next((network for network, _ in found if not network.internal), None)
            if main is not None:
                made.held = ports.hold(order.ports, main.bind)
            with Rtnetlink(namespace) as inside:
                inside.set_up(_LOOPBACK)
                for network, one in found:
                    _join(made, inside, order, network, one, pid, is_main=network is main)
    except BaseException:
        detach(order.folder, order.container, pid)
        made.close()
        raise
    return made


def _precedence(place: tuple[Network, EndpointOrder]) -> tuple[bool, int, str]:
    network, one = place
    return network.internal, -one.priority, network.name


def connect(made: Attachment, order: NetworkOrder, one: EndpointOrder, pid: int) -> None:
    """Bring a running container to one more network.

    Raises:
        Fault, OSError: it cannot be; it is where it was.
    """
    with locked(made.store.lock):
        network = made.store.find(one.network)
        _check_networks([network])
        if made.store.endpoint(network, order.container) is not None:
            raise Fault(
                USER, f"endpoint with name {order.name} already exists in network {network.name}"
            )
        with Rtnetlink(made.namespace) as inside:
            try:
                _join(made, inside, order, network, one, pid, is_main=False)
            except BaseException:
                _leave(made.store, network, order.container)
                raise
            _choose_gateway(made, inside)


def disconnect(made: Attachment, network: Network, container: str) -> None:
    """Take a running container off a network."""
    with locked(made.store.lock):
        _leave(made.store, network, container)
        made.places = [place for place in made.places if place[0].id != network.id]
        with Rtnetlink(made.namespace) as inside:
            _choose_gateway(made, inside)


def detach(folder: str, container: str, pid: int) -> None:
    """Give back all that one run of a container had; again and again, where need be."""
    store = records.NetworkFiles(folder)
    with locked(store.lock):
        for network in store.networks():
            endpoint = store.endpoint(network, container)
            if endpoint is not None and endpoint.pid == pid:
                _leave(store, network, container)


def _join(
    made: Attachment,
    inside: Rtnetlink,
    order: NetworkOrder,
    network: Network,
    one: EndpointOrder,
    pid: int,
    *,
    is_main: bool,
) -> None:
    store = made.store
    _check(network, one)
    with Rtnetlink() as outside:
        bridge = kernelstate.ensure_bridge(store, network, outside, made.warnings)
        endpoint = _endpoint(made, order, network, one, pid, is_main=is_main)
        made.places.append((network, endpoint))
        mac = bytes.fromhex(endpoint.mac.replace(":", ""))
        outside.add_veth(endpoint.peer, bridge, endpoint.device, made.namespace, mac, network.mtu)
        peer = index_of(endpoint.peer)
        outside.set_port(peer, hairpin=bool(endpoint.ports), isolated=not network.talks)
    with Inside(made.namespace):
        index = index_of(endpoint.device)
        kernelstate.set_sysctl(f"ipv4/conf/{endpoint.device}/arp_notify", "1")
    for address in endpoint.addresses:
        text, _, prefix = address.partition("/")
        inside.add_address(index, pools.packed_address(text), int(prefix))
    inside.set_up(index)
    if is_main:
        for subnet in network.subnets:
            inside.add_default_route(index, pools.packed_address(subnet.gateway))
    kernelstate.publish(store, network, endpoint)


def _choose_gateway(made: Attachment, inside: Rtnetlink) -> None:
    """Have the default route go by the first network that has one [NET-7]."""
    for network, endpoint in made.places:
        if not network.internal:
            with Inside(made.namespace):
                index = index_of(endpoint.device)
            for subnet in network.subnets:
                inside.replace_default_route(index, pools.packed_address(subnet.gateway))
            return


def _check_networks(networks: Sequence[Network]) -> None:
    """Refuse networks that no container can be on beside its own loopback, and one that is given twice."""
    for network in networks:
        if network.driver != "bridge":
            raise Fault(
                USER,
                f"a container cannot be connected to the {network.name} network",
                (f"give it that one alone, by its name: --network {network.name}",),
            )
        if networks.count(network) > 1:
            raise Fault(USER, f'network "{network.name}" is specified multiple times')


def _check(network: Network, one: EndpointOrder) -> None:
    """Refuse addresses that the network cannot have [NET-3]."""
    if not one.addresses:
        return
    if not network.is_user_defined:
        raise Fault(
            USER,
            "user specified IP address is supported on user defined networks only",
            ("make one: pybuild network create --subnet 172.30.0.0/16 NAME",),
        )
    given = [pools.Block(subnet.prefix) for subnet in network.subnets if subnet.given]
    if not given:
        raise Fault(
            USER,
            "user specified IP address is supported only when connecting to networks with user "
            "configured subnets",
            (f"make the network with a subnet: pybuild network create --subnet … {network.name}",),
        )
    for address in one.addresses:
        if not any(block.holds(address) for block in given):
            raise Fault(
                USER,
                f"invalid address {address}: no configured subnet of network {network.name} "
                "contains it",
                ("its subnets: " + ", ".join(map(str, given)),),
            )


def _endpoint(
    made: Attachment,
    order: NetworkOrder,
    network: Network,
    one: EndpointOrder,
    pid: int,
    *,
    is_main: bool,
) -> NetworkEndpoint:
    """Write down where the container is to be, with addresses that nobody else has."""
    store, short = made.store, order.container[:12]
    names = (order.name, *one.aliases, short, order.hostname)
    taken = {endpoint.device for _, endpoint in made.places}
    device = next(name for number in range(1000) if (name := f"eth{number}") not in taken)
    endpoint = records.NetworkEndpoint(
        container=order.container,
        name=order.name,
        pid=pid,
        started=records.start_time(pid),
        boot=boot_id() or "",
        device=device,
        peer="veth" + os.urandom(4).hex()[:7],
        mac=one.mac or "02:42:" + os.urandom(4).hex(":"),
        names=tuple(dict.fromkeys(name for name in names if name)),
        aliases=tuple(dict.fromkeys(one.aliases)),
        ports=tuple(held.port for held in made.held) if is_main else (),
    )
    for attempt in (1, 2):
        addresses = _addresses(store, network, one)
        if addresses is not None:
            endpoint = endpoint._replace(addresses=tuple(addresses))
            try:
                store.keep(network, endpoint)
                return endpoint
            except FileExistsError:
                pass
        if attempt == 1:
            kernelstate.sweep(store)  # somebody may have ended without a word
    if one.addresses:
        raise Fault(
            ENVIRONMENT,
            f"address {' or '.join(one.addresses)} is already in use on network {network.name}",
            (f"pybuild network inspect {network.name} shows by whom",),
        )
    raise Fault(
        ENVIRONMENT,
        f"network {network.name} has no free address",
        ("remove containers that are not needed, or make a network with a larger subnet",),
    )


def _addresses(store: NetworkFiles, network: Network, one: EndpointOrder) -> list[str] | None:
    """Return an address of each subnet; None: one of them has none."""
    leases = store.leases(network)
    chosen: list[str] = []
    for subnet in network.subnets:
        block = pools.Block(subnet.prefix)
        address = next((text for text in one.addresses if block.holds(text)), "")
        if address:
            if address in leases or address in (subnet.gateway, *subnet.reserved):
                return None
        else:
            last = store.last_address(network, subnet.prefix)
            address = pools.free_address(subnet, leases, last)
            if not address:
                return None
            store.note_address(network, subnet.prefix, address)
        chosen.append(f"{address}/{block.prefix}")
    return chosen


def _leave(store: NetworkFiles, network: Network, container: str) -> None:
    endpoint = store.endpoint(network, container)
    if endpoint is not None:
        try:
            # With its namespace it would go, too, but that may be shared, and live on.
            with Rtnetlink() as outside:
                outside.remove_link(endpoint.peer)
            kernelstate.unpublish(store, endpoint)
        finally:
            store.drop(network, endpoint)


def problem(error: OSError) -> Fault:
    """Return the fault for a refusal of the kernel."""
    if error.errno in (errno.EPERM, errno.EACCES):
        return Fault(
            ENVIRONMENT,
            "a network of the container's own needs root",
            ("run as root", "or use the host's network: --network host"),
        )
    return Fault(ENVIRONMENT, describe_os_error(error, "cannot connect the container"))
