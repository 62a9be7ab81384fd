"""The texts of a container's /etc/hosts and /etc/resolv.conf on networks of its own [NET-10, NET-11]. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.networks.order import NetworkOrder
    from pybuild.networks.records import Network, NetworkEndpoint

RESOLVER = "127.0.0.11"
HOSTS, RESOLV_CONF = "/etc/hosts", "/etc/resolv.conf"
HOST_GATEWAY = "host-gateway"
_STANDARD = (
    "127.0.0.1\tlocalhost",
    "::1\tlocalhost ip6-localhost ip6-loopback",
    "fe00::\tip6-localnet",
    "ff00::\tip6-mcastprefix",
    "ff02::1\tip6-allnodes",
    "ff02::2\tip6-allrouters",
)
_ID_LETTERS = frozenset("0123456789abcdef")


def standard_hosts(given: Sequence[tuple[str, str]]) -> list[str]:
    """Return the lines of a hosts file on no network: the standard names, and those that were given."""
    return [*_STANDARD, *(f"{address}\t{name}" for name, address in given)]


def hosts(
    order: NetworkOrder,
    places: Sequence[tuple[Network, NetworkEndpoint]],
    linked: Sequence[str] = (),
) -> str:
    """Return the hosts file: the standard names, those that were given, its own, and those of its links."""
    gateway = _gateway(places)
    given = ((name, gateway if text == HOST_GATEWAY else text) for name, text in order.hosts)
    lines = standard_hosts([(name, address) for name, address in given if address])
    return "\n".join([*lines, *own_lines(order, places), *linked]) + "\n"


def moved_hosts(text: str, before: Sequence[str], after: Sequence[str]) -> str:
    """Return a hosts file with the container's own lines as they are now; others stay as they are.

    Lines of links go by their shape: a helper that took over does not know those that were written
    before it, and an address that is another container's by now would come first.
    """
    lines = text.splitlines()
    kept = [line for line in lines if line not in before and not _is_of_a_link(line)]
    return "\n".join([*kept, *after]) + "\n"


def _is_of_a_link(line: str) -> bool:
    """Whether it is an address, the alias, a container's short id, and its name if that is not the alias."""
    address, _, names = line.partition("\t")
    words = names.split(" ")
    if not address or len(words) not in (2, 3):
        return False
    return len(words[1]) == 12 and _ID_LETTERS.issuperset(words[1])


def own_lines(order: NetworkOrder, places: Sequence[tuple[Network, NetworkEndpoint]]) -> list[str]:
    """Return the lines with its own name."""
    hostname = order.hostname
    names = f"{hostname} {hostname.partition('.')[0]}" if "." in hostname else hostname
    return [
        f"{address.partition('/')[0]}\t{names}"
        for _, endpoint in places
        for address in endpoint.addresses
    ]


def resolv_conf(order: NetworkOrder) -> str:
    """Return the resolver's configuration for a container whose names we answer."""
    lines = [f"nameserver {RESOLVER}"]
    if order.search and order.search != (".",):
        lines.append("search " + " ".join(order.search))
    options = list(order.options)
    if not any(option.startswith("ndots:") for option in options):
        options.append("ndots:0")
    lines.append("options " + " ".join(options))
    return "\n".join(lines) + "\n"


def beyond_loopback(order: NetworkOrder, server: str) -> NetworkOrder:
    """Return *order* for who does not reach the machine's loopback addresses: *server* answers for those there."""
    servers = tuple(dict.fromkeys(_reached(one, server) for one in order.servers))
    if servers == order.servers or order.are_given:
        return order
    others = [line for line in order.resolv_conf.splitlines() if not line.startswith("nameserver ")]
    lines = [*(f"nameserver {one}" for one in servers), *others]
    return order._replace(servers=servers, resolv_conf="\n".join(lines) + "\n")


def _reached(server: str, instead: str) -> str:
    return instead if server.startswith("127.") or server == "::1" else server


def _gateway(places: Sequence[tuple[Network, NetworkEndpoint]]) -> str:
    """Return the address of the host as the container sees it, "": it has none."""
    for network, _ in places:
        for subnet in network.subnets:
            if ":" not in subnet.prefix:
                return subnet.gateway
    return ""
