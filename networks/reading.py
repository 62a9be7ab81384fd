"""Places on networks and published ports as people write them: --network, --ip, --publish [NET, CTR-90]."""

from __future__ import annotations

from pybuild.executor import network
from pybuild.model.border import NamedTuple
from pybuild.model.errors import UsageError, UserError
from pybuild.networks.order import (
    BRIDGE,
    CONTAINER,
    HOST,
    NONE,
    EndpointOrder,
    PortOrder,
)
from pybuild.networks.pools import packed_address, spelled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from pybuild.frontend.lowering.ports import PortSpec

_MAC = r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z"
_PRIORITY_DIGITS = 9
_SHOWN_LENGTH = 100


def name_of(text: str) -> str:
    """Return the name in ``NAME`` or ``name=NAME,…``."""
    if "=" not in text:
        return text
    known: dict[str, str] = {}
    for part in text.split(","):
        key, _, value = part.partition("=")
        known[key] = value
    if not known.get("name"):
        raise UsageError(f"--network {text}: no name", hints=["write --network name=NAME,…"])
    return known["name"]


def first_network(texts: Sequence[str]) -> str:
    """Return the network that stands first: ``host``, ``none``, ``container:NAME`` or a network's name.

    Raises:
        UsageError: they do not go together.
    """
    names = [name_of(text) for text in texts]
    names = [BRIDGE if name == "default" else name for name in names]
    for name in names:
        if len(names) > 1 and (name in (HOST, NONE) or name.startswith(CONTAINER)):
            raise UsageError(
                f"conflicting options: --network {name} goes with no other network",
                hints=["leave out one of them"],
            )
        if names.count(name) > 1:
            raise UsageError(
                f'network "{name}" is specified multiple times', hints=["leave out one of them"]
            )
    return names[0]


def refuse_own(options: Collection[str], mode: str) -> None:
    """Refuse the options that need a network of the container's own.

    Raises:
        UsageError: one of them is given.
    """
    for option in ("ip", "ip6", "mac-address", "network-alias", "link"):
        if option in options:
            raise UsageError(
                f"conflicting options: --{option} needs a network of the container's own, and "
                f"{mode} is none",
                hints=["make one: pybuild network create NAME; then --network NAME"],
            )
    for option in ("hostname", "dns", "add-host"):
        if mode.startswith(CONTAINER) and option in options:
            raise UsageError(
                f"conflicting options: --{option} and --network {mode}",
                hints=["that container's holds for both: give it there"],
            )
    if mode != HOST and ("publish" in options or "publish-all" in options):
        raise UsageError(
            f"conflicting options: nothing can be published with --network {mode}",
            hints=["leave out one of the two"],
        )


def read_endpoint(text: str) -> EndpointOrder:
    name = name_of(text)
    if "=" not in text:
        return EndpointOrder(BRIDGE if name == "default" else name)
    aliases, addresses, mac, priority = list[str](), list[str](), "", 0
    for part in text.split(","):
        key, _, value = part.partition("=")
        match key:
            case "name":
                pass
            case "alias":
                aliases.append(value)
            case "ip" | "ip6":
                addresses.append(read_address(value, key))
            case "mac-address":
                mac = read_mac(value)
            case "gw-priority" if is_priority(value):
                priority = int(value)
            case _:
                raise UsageError(
                    f"--network {text}: invalid field {part}",
                    hints=["known: name, alias, ip, ip6, mac-address, gw-priority"],
                )
    return EndpointOrder(name, tuple(aliases), tuple(addresses), mac, priority)


def is_priority(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and len(text) <= _PRIORITY_DIGITS


def read_address(text: str, option: str) -> str:
    try:
        packed = packed_address(text)
    except ValueError as error:
        raise UsageError(f"--{option}: {error}") from None
    if (len(packed) == 16) != (option == "ip6"):
        raise UsageError(f"--{option} {text}: an address of the other version of IP")
    return spelled(text)


def read_mac(text: str) -> str:
    mac = text.lower().replace("-", ":")
    import re

    if not re.match(_MAC, mac):
        raise UsageError(f"--mac-address: {text} is not a valid mac address")
    return mac


def read_link(text: str) -> tuple[str, str]:
    """Return the container and the name in ``NAME[:ALIAS]``, which may be written as docker shows it.

    Raises:
        UsageError: it is none.
    """
    name, colon, alias = text.partition(":")
    name, alias = name.removeprefix("/"), alias.rpartition("/")[2]
    if not name or ":" in alias or (colon and not alias):
        raise UsageError(
            f"bad format for links: {text[:_SHOWN_LENGTH]}", hints=["write NAME:ALIAS, or NAME"]
        )
    return name, alias or name


def check_server(text: str) -> None:
    try:
        packed_address(text.partition("%")[0])
    except ValueError:
        raise UsageError(f"--dns: {text} is not an ip address") from None


def words_of(text: str, directives: Sequence[str]) -> tuple[str, ...]:
    lines = [line.split() for line in text.splitlines()]
    return tuple(
        word for words in lines if words[:1] and words[0] in directives for word in words[1:]
    )


def port_orders(spec: PortSpec) -> Iterable[PortOrder]:
    protocol, host = spec.protocol.lower(), spec.host_numbers
    address = spec.address.removeprefix("[").removesuffix("]")
    if len(spec.numbers) == 1 or not host:
        first, last = (host[0], host[-1]) if host else (0, 0)
        for number in spec.numbers:
            yield PortOrder(protocol, number, address, first, last)
    else:
        for number, one in zip(spec.numbers, host, strict=True):
            yield PortOrder(protocol, number, address, one, one)


_ANY = frozenset(("", "0.0.0.0", "[::]"))


def check_published(texts: Iterable[str]) -> None:
    """See that each ``[[ip:]host:]port[/protocol]`` is what host networking does anyway.

    Raises:
        UsageError: another port or address of the host was asked for.
    """
    for text in texts:
        spec = _port(text)
        _check(text, spec)


def _check(text: str, spec: PortSpec) -> None:
    ports = "-".join(map(str, sorted({spec.numbers[0], spec.numbers[-1]})))
    is_same = spec.numbers == spec.host_numbers
    may_choose = len(spec.numbers) == 1 and spec.numbers[0] in spec.host_numbers
    if spec.host_numbers and not is_same and not may_choose:
        raise UsageError(
            f"-p {text}: ports cannot be mapped: the process has the host's network, and would "
            f"listen on the host's own {ports}",
            hints=["have the program listen on another port (often -e PORT=…), and leave out -p"],
        )
    if spec.address not in _ANY:
        raise UsageError(
            f"-p {text}: ports cannot be bound to an address: the process has the host's network, "
            f"and chooses itself where it listens on {ports}",
            hints=[f"have the program listen on {spec.address} alone, and leave out -p"],
        )


def read_servers(given: Sequence[str], host_text: str) -> tuple[str, ...]:
    """Return the name servers: those that are given, else the machine's.

    Raises:
        UsageError: one of them is no address.
    """
    for server in given:
        check_server(server)
    return tuple(given) or words_of(host_text, ("nameserver",))


class _Given(NamedTuple):
    nameservers: Sequence[str]
    search_domains: Sequence[str]
    options: Sequence[str]


def resolv_conf_with(
    text: str, servers: Sequence[str], search: Sequence[str], options: Sequence[str]
) -> str:
    """Return a resolv.conf with what was given for a container; what was not stays [NET-10]."""
    if not servers and not search and not options:
        return text
    return network.resolv_conf(
        text, host_network=True, dns=_Given(tuple(servers), tuple(search), tuple(options))
    )


def has_hosts_servers(mode: str) -> bool:
    """Whether a container of this mode reaches the name servers of the machine's loopback addresses."""
    return mode == HOST or mode.startswith(CONTAINER)


def read_published(texts: Iterable[str]) -> Iterable[PortOrder]:
    """Yield the ports that ``-p`` publishes.

    Raises:
        UsageError: one of *texts* is no port.
    """
    for text in texts:
        yield from port_orders(_port(text))


def others_of(exposed: Iterable[str], ports: Iterable[PortOrder]) -> Iterable[PortOrder]:
    """Yield the *exposed* ports, as ``80/tcp``, that are not among *ports*, to be published wherever one is free."""
    published = {(one.protocol, one.port) for one in ports}
    for text in exposed:
        for order in port_orders(_port(text)):
            if (order.protocol, order.port) not in published:
                yield order


def _port(text: str) -> PortSpec:
    """Read ``[[ip:]host:]port[/protocol]``.

    Raises:
        UsageError: it is none.
    """
    from pybuild.frontend.lowering.ports import parse_port

    try:
        return parse_port(text)
    except UserError as error:
        raise UsageError(f"-p {text}: {error.message}") from error
