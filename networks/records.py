"""The records of networks and of the containers on them, on disk [MON-2, NET-14].

<root>/networks/
  lock            held, briefly, by whoever changes anything here or in the kernel
  table           the name of this store's table of the packet filter
  helpers/ID      locked by the process beside a container that has networks
  calls/ID        the socket at which commands call that process, see `calling`
  ID/
    network.json  a `Network`
    endpoints/ID  an `NetworkEndpoint`: a container's place in it, from before the kernel has any of it until after
    leases/IP     a link to the container that has the address; never two
"""

from __future__ import annotations

import os

from pybuild.cache.disk.locks import boot_id, tried
from pybuild.cache.disk.plainfile import whole
from pybuild.cache.disk.replacing import replace_file
from pybuild.executor.zygote.faults import USER, Fault
from pybuild.model import lightjson
from pybuild.model.border import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LOCK, TABLE, HELPERS, CALLS = "lock", "table", "helpers", "calls"
NETWORK, ENDPOINTS, LEASES = "network.json", "endpoints", "leases"
BRIDGE, HOST, NONE = "bridge", "host", "none"
PREDEFINED = (BRIDGE, HOST, NONE)
_NEW = ".new"


class Subnet(NamedTuple):
    """One range of addresses of a network.

    Attributes:
        prefix: of the whole, as ``172.18.0.0/16``.
        gateway: the bridge's own address.
        range: the part that containers get addresses of, if that is not all.
        reserved: addresses that nobody gets; *reserved_names*: of each, "" where it has none.
        given: somebody chose it, and so may choose addresses.
    """

    prefix: str
    gateway: str
    range: str = ""
    reserved: tuple[str, ...] = ()
    given: bool = False
    reserved_names: tuple[str, ...] = ()


class Network(NamedTuple):
    """A network as it was made; a subnet that nobody has given it may be another once others have taken it.

    Attributes:
        id: 64 hexadecimal digits.
        driver: bridge, host or null.
        created: nanoseconds since the epoch.
        internal: nothing goes in or out.
        talks: its containers reach each other.
        hides: other hosts see its containers as this one.
        bind: the address of the host where its ports are published if no other is given.
        mtu: 0: the kernel's.
    """

    id: str
    name: str
    driver: str = "bridge"
    created: int = 0
    bridge: str = ""
    subnets: tuple[Subnet, ...] = ()
    internal: bool = False
    attachable: bool = False
    ipv6: bool = False
    talks: bool = True
    hides: bool = True
    bind: str = ""
    mtu: int = 0
    options: dict[str, str] = {}  # noqa: RUF012 (a named tuple's default, which nobody writes to)
    labels: dict[str, str] = {}  # noqa: RUF012

    @property
    def is_user_defined(self) -> bool:
        return self.name not in PREDEFINED


class Port(NamedTuple):
    """A published port: the host's address and number, and the number in the container."""

    protocol: str
    address: str
    port: int
    to_port: int


class NetworkEndpoint(NamedTuple):
    """A container on a network.

    Attributes:
        pid, started, boot: its first process, when that began in the kernel's ticks, and the machine's
            boot: they tell whether it lives, whatever becomes of process numbers.
        device, peer: the names of its end of the wire and of the bridge's.
        addresses: with the length of the prefix, as ``172.18.0.2/16``.
        names: under which it is found here, the container's own first; what inspect calls DNSNames.
        aliases: those among them that were asked for.
        ports: published, on the one endpoint that has the default route.
        links: names that it alone has for others here: ``(container, alias)``.
    """

    container: str
    name: str
    pid: int = 0
    started: int = 0
    boot: str = ""
    device: str = ""
    peer: str = ""
    mac: str = ""
    addresses: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()
    links: tuple[tuple[str, str], ...] = ()

    def address(self, version: int) -> str:
        """Return its address of IP version 4 or 6, "": it has none."""
        for address in self.addresses:
            if (":" in address) == (version == 6):
                return address.partition("/")[0]
        return ""


class NetworkFiles:
    """The records of a store; *folder* is its ``networks``."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.lock = os.path.join(folder, LOCK)

    def networks(self) -> list[Network]:
        """Return all networks, by name."""
        try:
            ids = [name for name in os.listdir(self.folder) if len(name) == 64]
        except FileNotFoundError:
            return []
        matches = [self._network(id) for id in ids]
        return sorted((one for one in matches if one is not None), key=lambda one: one.name)

    def _network(self, id: str) -> Network | None:
        try:
            known = _read(os.path.join(self.folder, id, NETWORK))
            subnets = tuple(map(_subnet, known["subnets"]))
            known["subnets"] = subnets
            return Network(**known)
        except (OSError, ValueError, TypeError, KeyError):
            return None  # half removed, or not ours

    def find(self, text: str) -> Network:
        """Return the network with this name or id, or the one whose id begins so.

        Raises:
            Fault: user; there is none, or several.
        """
        all = self.networks()
        matches = [one for one in all if one.id == text]  # before one that has it for a name
        matches = matches or [one for one in all if one.name == text]
        if not matches and text:
            matches = [one for one in all if one.id.startswith(text)]
        if len(matches) > 1:
            raise Fault(USER, f"network {text} is ambiguous ({len(matches)} matches found)")
        if not matches:
            raise Fault(
                USER,
                f"network {text} not found",
                ("pybuild network ls lists what there is",),
            )
        return matches[0]

    def add(self, network: Network) -> None:
        """Keep a new network.

        Raises:
            OSError: it cannot be.
        """
        place = os.path.join(self.folder, network.id)
        folders = (place, os.path.join(place, ENDPOINTS), os.path.join(place, LEASES))
        document = network._asdict()
        document["subnets"] = [one._asdict() for one in network.subnets]
        try:
            for path in folders:
                os.makedirs(path, 0o700, exist_ok=True)
            _write(os.path.join(place, NETWORK), document)
        except OSError:  # the disk is full: nothing is left of it
            for path in reversed(folders):
                if os.path.isdir(path):
                    os.rmdir(path)
            raise

    def remove(self, network: Network) -> None:
        """Forget a network; it is gone with the first of these calls."""
        place = os.path.join(self.folder, network.id)
        os.unlink(os.path.join(place, NETWORK))
        for folder, _, files in os.walk(place, topdown=False):
            for name in files:
                os.unlink(os.path.join(folder, name))
            os.rmdir(folder)

    # --- endpoints --------------------------------------------------------------------------------

    def endpoints(self, network: Network) -> list[NetworkEndpoint]:
        """Return the containers on a network, those that have ended without a word included."""
        place = os.path.join(self.folder, network.id, ENDPOINTS)
        try:
            names = [name for name in os.listdir(place) if "." not in name]
        except FileNotFoundError:
            return []
        matches = [self.endpoint(network, name) for name in sorted(names)]
        return [one for one in matches if one is not None]

    def living(self, network: Network) -> list[NetworkEndpoint]:
        """Return the places of the containers that live on a network."""
        boot = boot_id() or ""
        return [one for one in self.endpoints(network) if is_living(one, boot)]

    def places(self, container: str) -> list[tuple[Network, NetworkEndpoint]]:
        """Return where a container is that runs, by the names of the networks."""
        boot, held = boot_id() or "", list[tuple[Network, NetworkEndpoint]]()
        for network in self.networks():
            endpoint = self.endpoint(network, container)
            if endpoint is not None and is_living(endpoint, boot):
                held.append((network, endpoint))
        return held

    def all_places(self) -> dict[str, list[tuple[Network, NetworkEndpoint]]]:
        """Return where all containers are that run, by their ids: each record is read once."""
        held: dict[str, list[tuple[Network, NetworkEndpoint]]] = {}
        for network in self.networks():
            for endpoint in self.living(network):
                held.setdefault(endpoint.container, []).append((network, endpoint))
        return held

    def endpoint(self, network: Network, container: str) -> NetworkEndpoint | None:
        """Return the place of a container on a network."""
        try:
            known = _read(self._endpoint(network, container))
            for name in ("addresses", "names", "aliases"):
                known[name] = tuple(known[name])
            known["ports"] = tuple(Port(*one) for one in known["ports"])
            known["links"] = tuple((one, alias) for one, alias in known.get("links", ()))
            return NetworkEndpoint(**known)
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def keep(self, network: Network, endpoint: NetworkEndpoint) -> None:
        """Write an endpoint down, with its addresses leased.

        Raises:
            FileExistsError: somebody has one of the addresses.
        """
        leased: list[str] = []
        try:
            for address in endpoint.addresses:
                path = self._lease(network, address)
                try:
                    os.symlink(endpoint.container, path)
                    leased.append(path)
                except FileExistsError:
                    if os.readlink(path) != endpoint.container:
                        raise
            _write(self._endpoint(network, endpoint.container), endpoint._asdict())
        except BaseException:
            for path in leased:
                os.unlink(path)
            raise

    def drop(self, network: Network, endpoint: NetworkEndpoint) -> None:
        """Forget an endpoint; its addresses are free."""
        for address in endpoint.addresses:
            path = self._lease(network, address)
            try:
                if os.readlink(path) == endpoint.container:
                    os.unlink(path)
            except FileNotFoundError:
                pass
        try:
            os.unlink(self._endpoint(network, endpoint.container))
        except FileNotFoundError:
            pass

    def leases(self, network: Network) -> dict[str, str]:
        """Return the container of each address that is taken."""
        place = os.path.join(self.folder, network.id, LEASES)
        return {name: os.readlink(os.path.join(place, name)) for name in os.listdir(place)}

    def release_lease(self, network: Network, address: str) -> None:
        """Free an address whose endpoint was never written."""
        os.unlink(self._lease(network, address))

    def _endpoint(self, network: Network, container: str) -> str:
        return os.path.join(self.folder, network.id, ENDPOINTS, container)

    def _lease(self, network: Network, address: str) -> str:
        return os.path.join(self.folder, network.id, LEASES, address.partition("/")[0])

    def last_address(self, network: Network, prefix: str) -> str:
        """Return the address given last of a subnet, so that the next one is another."""
        try:
            return os.readlink(self._last(network, prefix))
        except FileNotFoundError:
            return ""

    def note_address(self, network: Network, prefix: str, address: str) -> None:
        path = self._last(network, prefix)
        try:
            os.unlink(path + _NEW)
        except FileNotFoundError:
            pass
        os.symlink(address, path + _NEW)
        os.rename(path + _NEW, path)

    def _last(self, network: Network, prefix: str) -> str:
        return os.path.join(self.folder, network.id, "last6" if ":" in prefix else "last4")

    def forget_helpers(self) -> None:
        """Remove what helpers have left that were killed."""
        place = os.path.join(self.folder, HELPERS)
        try:
            names = os.listdir(place)
        except FileNotFoundError:
            return
        for name in names:
            path = os.path.join(place, name)
            with tried(path) as is_ours:
                if is_ours:
                    os.unlink(path)
                    try:
                        os.unlink(os.path.join(self.folder, CALLS, name))
                    except FileNotFoundError:
                        pass

    @property
    def table(self) -> str:
        """The name of this store's table of the packet filter."""
        with open(os.path.join(self.folder, TABLE), encoding="ascii") as file:
            return file.read()


def endpoint_id(endpoint: NetworkEndpoint) -> str:
    """Return the 64 digits that stand for a container's place on a network."""
    from hashlib import sha256

    return sha256(f"{endpoint.container}/{endpoint.peer}".encode()).hexdigest()


def is_living(endpoint: NetworkEndpoint, boot: str) -> bool:
    """Whether the process of an endpoint is there, in this boot of the machine."""
    return endpoint.boot == boot and start_time(endpoint.pid) == endpoint.started != 0


def start_time(pid: int) -> int:
    """Return when a process began, in the kernel's ticks; 0: there is none, or it has ended."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        words = whole(fd).rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if words[0] in (b"Z", b"X") else int(words[19])


def _subnet(document: dict[str, Any]) -> Subnet:
    for name in ("reserved", "reserved_names"):
        document[name] = tuple(document.get(name, ()))
    return Subnet(**document)


def _read(path: str) -> dict[str, Any]:
    known: dict[str, Any] = lightjson.loads(whole(os.open(path, os.O_RDONLY | os.O_CLOEXEC)))
    return known


def _write(path: str, document: dict[str, Any]) -> None:
    replace_file(path, lightjson.dumps(document, sort_keys=True).encode())
