"""A container's own network namespace brought to its networks, and all of that given back.

For the helper of the container; whoever ends in between leaves a record, by which the next who comes
here cleans up. Each change is made under the lock of all networks of the store, which is held for
milliseconds.
"""

from __future__ import annotations

import errno
import os

from pybuild.cache.disk import journal
from pybuild.cache.disk.locks import boot_id, locked
from pybuild.executor.zygote.faults import ENVIRONMENT, USER, Fault, describe_os_error
from pybuild.networks import kernelstate, pod, pools, ports, records
from pybuild.networks.rtnetlink import Inside, Rtnetlink, index_of, namespace_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Sequence

    from pybuild.networks.order import EndpointOrder, NetworkOrder
    from pybuild.networks.records import Network, NetworkEndpoint, NetworkFiles

_LOOPBACK = 1


class Attachment:
    """The endpoints of a running container, whose first process is *pid*.

    Attributes:
        places: a network and the endpoint on it, in the order of the container's devices.
        held: its published ports.
        questions: the sockets for names that are open already.
        let_go: is called with a published port before its socket is closed.
        warnings: what the user should know.
    """

    def __init__(self, order: NetworkOrder, namespace: int, pid: int) -> None:
        self.store = records.NetworkFiles(order.folder)
        self.order = order
        self.namespace = namespace
        self.pid = pid
        self.places: list[tuple[Network, NetworkEndpoint]] = []
        self.priorities: dict[str, int] = {}
        self.held: list[ports.HeldPort] = []
        self.questions: tuple[_socket.socket, _socket.socket] | None = None
        self.let_go: Callable[[ports.HeldPort], None] = lambda held: None
        self.warnings: list[str] = []

    def close(self) -> None:
        """Let go of what this process has of it."""
        self.release_ports()
        if self.namespace >= 0:
            os.close(self.namespace)
            self.namespace = -1

    def release_ports(self) -> None:
        for one in self.held:
            self.let_go(one)
        ports.release(self.held)
        self.held = []

    def answers_names(self) -> bool:
        """Whether its questions for names come to us [NET-10, NET-11].

        They do where containers are found by name, and where nobody is asked but whom only this machine
        reaches.
        """
        if any(network.is_user_defined for network, _ in self.places):
            return True
        servers = () if self.order.are_given else self.order.servers
        return bool(servers) and all(one.startswith("127.") or one == "::1" for one in servers)

    def gateway(self) -> tuple[Network, NetworkEndpoint] | None:
        """Return the place that has the default route and the published ports [NET-7]; None: there is none."""
        open_places = [place for place in self.places if not place[0].internal]

        def precedence(place: tuple[Network, NetworkEndpoint]) -> tuple[int, str]:
            return -self.priorities[place[0].id], place[0].name

        return min(open_places, key=precedence, default=None)

    def published(self) -> tuple[Network, NetworkEndpoint] | None:
        """Return the place that the published ports lead to; None: none are."""
        return next((place for place in self.places if place[1].ports), None)

    def replace(self, network: Network, endpoint: NetworkEndpoint) -> None:
        """Write down what has become of an endpoint."""
        self.store.keep(network, endpoint)
        self.places = [
            (known, endpoint if known.id == network.id else one) for known, one in self.places
        ]


def attach(order: NetworkOrder, pid: int) -> Attachment:
    """Bring the network namespace of process *pid*, which is new, to its networks.

    Raises:
        Fault, OSError: it cannot be; nothing is left of it.
    """
    made = Attachment(order, namespace_of(pid), pid)
    store = made.store
    try:
        with locked(store.lock):
            places = [(store.find(one.network), one) for one in order.endpoints]
            _check_networks([network for network, _ in places])
            for (
                network,
                _,
            ) in places:  # a run before, whose helper was killed: its ports lead astray
                leave(store, network, order.container)
            places.sort(key=_precedence)
            main = next((network for network, _ in places if not network.internal), None)
            if main is not None or pod.is_used():  # from there they cannot be had later
                made.held = ports.hold(order.ports, "" if main is None else main.bind)
            if pod.is_used():
                made.warnings += pod.enter(store)
            with Rtnetlink(made.namespace) as inside:
                inside.set_up(_LOOPBACK)
                for network, one in places:
                    _join(made, inside, network, one, is_main=network is main)
    except BaseException:
        remove_devices(detach(order.folder, order.container, pid))
        made.close()
        raise
    return made


def take_over(
    order: NetworkOrder, pid: int, held: Sequence[ports.HeldPort] | None = None
) -> Attachment:
    """The attachment that another helper has made for process *pid*, which runs; a port that is lost stays so.

    Args:
        held: the ports that it has left; None: it was killed.

    Raises:
        OSError: it has ended.
    """
    made = Attachment(order, namespace_of(pid), pid)
    store = made.store
    with locked(store.lock):
        for network in store.networks():
            endpoint = store.endpoint(network, order.container)
            if endpoint is not None and endpoint.pid == pid:
                made.places.append((network, endpoint))
                if held is None:
                    made.held += ports.hold_again(endpoint.ports)
        made.held += held or ()
        if pod.is_used():
            made.warnings += pod.enter(store)
        for network, endpoint in tuple(made.places):
            if not index_of(endpoint.peer):  # it was killed before it had laid the wire
                _forget(made, network)
                continue
            made.priorities[network.id] = next(
                (one.priority for one in order.endpoints if _is_meant(one.network, network)), 0
            )
    made.places.sort(key=lambda place: (len(place[1].device), place[1].device))
    return made


def _is_meant(text: str, network: Network) -> bool:
    return text == network.name or network.id.startswith(text)


def _precedence(place: tuple[Network, EndpointOrder]) -> tuple[bool, int, str]:
    network, one = place
    return network.internal, -one.priority, network.name


def connect(made: Attachment, one: EndpointOrder) -> None:
    """Bring a running container to one more network [NET-30].

    Raises:
        Fault, OSError: it cannot be; it is where it was.
    """
    store, order = made.store, made.order
    with locked(store.lock):
        network = store.find(one.network)
        _check_networks([network])
        if store.endpoint(network, order.container) is not None:
            raise Fault(
                USER, f"endpoint with name {order.name} already exists in network {network.name}"
            )
        with Rtnetlink(made.namespace) as inside:
            try:
                _join(made, inside, network, one, is_main=False)
                _choose_gateway(made, inside)
            except BaseException:
                _forget(made, network)
                _choose_gateway(made, inside)
                raise


def disconnect(made: Attachment, network: Network) -> None:
    """Take a running container off a network.

    Raises:
        Fault: it is not there, or its ports cannot be had by another network.
    """
    with locked(made.store.lock):
        if not any(known.id == network.id for known, _ in made.places):
            raise not_connected(made.order.container, network.name)
        _forget(made, network)
        with Rtnetlink(made.namespace) as inside:
            _choose_gateway(made, inside)


def rename(made: Attachment, name: str) -> None:
    """Have others find a running container by another name."""
    old, made.order = made.order.name, made.order._replace(name=name)
    with locked(made.store.lock):
        for network, endpoint in made.places:
            kept = [one for one in endpoint.names if one != old or one in endpoint.aliases]
            names = tuple(dict.fromkeys((name, *kept)))
            made.replace(network, endpoint._replace(name=name, names=names))


def not_connected(container: str, network: str) -> Fault:
    return Fault(USER, f"container {container} is not connected to network {network}")


def _forget(made: Attachment, network: Network) -> None:
    leave(made.store, network, made.order.container)
    made.places = [place for place in made.places if place[0].id != network.id]


def detach(folder: str, container: str, pid: int) -> list[str]:
    """Give back all that one run of a container had, but for devices; again and again, where need be.

    Returns:
        its devices that are left, for `remove_devices`. Networks that nobody is on any more stay in the
        kernel until the store's spawner has had nothing to do for a moment (`tidying`).
    """
    store = records.NetworkFiles(folder)
    devices: list[str] = []
    with locked(store.lock):
        for network in store.networks():
            endpoint = store.endpoint(network, container)
            if endpoint is not None and endpoint.pid == pid:
                devices.append(endpoint.peer)
                _withdraw(store, network, endpoint)
    return devices


def remove_devices(names: Sequence[str]) -> None:
    """Remove devices, for which the kernel takes tens of milliseconds: it waits until no processor uses them.

    They would go with their network namespace, too, but that may be shared, and live on.
    """
    try:
        with Rtnetlink() as outside:
            for name in names:
                outside.remove_link(name)
    except PermissionError:
        pass  # they are in the pod, and we are not


def _join(
    made: Attachment, inside: Rtnetlink, network: Network, one: EndpointOrder, *, is_main: bool
) -> None:
    store = made.store
    check_addresses(network, one)
    with Rtnetlink() as outside:
        network, bridge = kernelstate.ensure_bridge(
            store, network, outside, made.warnings, is_alone=pod.is_used()
        )
        endpoint = _endpoint(made, network, one, is_main=is_main)
        made.places.append((network, endpoint))
        made.priorities[network.id] = one.priority
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
    _note(store, "connect", network, made.order.container)


def _choose_gateway(made: Attachment, inside: Rtnetlink) -> None:
    """Have the default route and the published ports go by the network that is first now [NET-7]."""
    gateway = made.gateway()
    if gateway is not None:
        network, endpoint = gateway
        with Inside(made.namespace):
            index = index_of(endpoint.device)
        for subnet in network.subnets:
            inside.replace_default_route(index, pools.packed_address(subnet.gateway))
    if not made.order.ports:
        return
    before = made.published()
    if gateway is None:
        if not pod.is_used():
            made.release_ports()
    elif before is not None and before[0].id == gateway[0].id:
        return
    elif not made.held:
        made.held = ports.hold(made.order.ports, gateway[0].bind)
    if before is not None:
        kernelstate.unpublish(made.store, before[1])
        made.replace(before[0], before[1]._replace(ports=()))
    if gateway is not None:
        network, endpoint = gateway
        endpoint = endpoint._replace(ports=tuple(held.port for held in made.held))
        made.replace(network, endpoint)
        with Rtnetlink() as outside:
            outside.set_port(index_of(endpoint.peer), hairpin=True, isolated=not network.talks)
        kernelstate.publish(made.store, network, endpoint)


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


def check_addresses(network: Network, one: EndpointOrder) -> None:
    """Refuse addresses that the network cannot have, and names where nobody looks for any [NET-3].

    Raises:
        Fault: user; it cannot.
    """
    if one.aliases and not network.is_user_defined:
        raise Fault(
            USER,
            "network-scoped aliases are only supported for user-defined networks",
            ("make one: pybuild network create NAME",),
        )
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
    made: Attachment, network: Network, one: EndpointOrder, *, is_main: bool
) -> NetworkEndpoint:
    """Write down where the container is to be, with addresses that nobody else has."""
    store, order, pid = made.store, made.order, made.pid
    short = order.container[:12]
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
        links=one.links,
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
            kernelstate.sweep(store, kept=network)  # somebody may have ended without a word
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


def leave(store: NetworkFiles, network: Network, container: str) -> bool:
    """Take a container off a network; False: it is not there. The caller holds the lock of the networks."""
    endpoint = store.endpoint(network, container)
    if endpoint is None:
        return False
    try:
        remove_devices([endpoint.peer])
    finally:
        _withdraw(store, network, endpoint)
    try:
        kernelstate.retire(store, network)
    except PermissionError:
        pass  # it is in the pod, and we are not
    return True


def _withdraw(store: NetworkFiles, network: Network, endpoint: NetworkEndpoint) -> None:
    """Have the ports of an endpoint lead nowhere, and its addresses be nobody's."""
    try:
        kernelstate.unpublish(store, endpoint)
    except PermissionError:
        pass  # it is in the pod, and we are not
    finally:
        store.drop(network, endpoint)
        _note(store, "disconnect", network, endpoint.container)


def _note(store: NetworkFiles, action: str, network: Network, container: str) -> None:
    about = {"container": container, "name": network.name, "type": network.driver}
    journal.note(os.path.dirname(store.folder), journal.NETWORK, action, network.id, about)


def problem(error: OSError) -> Fault:
    """Return the fault for a refusal of the kernel."""
    if error.errno in (errno.EPERM, errno.EACCES):
        return Fault(
            ENVIRONMENT,
            "a network of the container's own needs root",
            ("run as root", "or use the host's network: --network host"),
        )
    return Fault(ENVIRONMENT, describe_os_error(error, "cannot connect the container"))
