"""The table of a store's networks, as text of nft's language [NET-21, NET-22]. Pure.

Its chains never change; networks and published ports are elements of its sets and maps, so that a
change is one short transaction. It is ours alone, and nothing here touches another table.
"""

from __future__ import annotations

from pybuild.model.border import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ANY = ("0.0.0.0", "::")


class BridgeRules(NamedTuple):
    """A network as the table knows it.

    Attributes:
        bridge: its device.
        subnets: those behind which its containers are hidden from other hosts.
        internal: nothing goes in or out.
        talks: its containers reach each other.
    """

    bridge: str
    subnets: tuple[str, ...]
    internal: bool = False
    talks: bool = True


class Published(NamedTuple):
    """A port of the host that leads to one of a container.

    Attributes:
        protocol: tcp, udp or sctp.
        address, port: of the host; ``0.0.0.0`` and ``::`` are all of them.
        to, to_port: the container's; of the same family.
    """

    protocol: str
    address: str
    port: int
    to: str
    to_port: int


_SETS = """
 set bridges { type ifname; }
 set same { type ifname . ifname; }
 set internal { type ifname; }
 set hidden4 { type ipv4_addr; flags interval; }
 set hidden6 { type ipv6_addr; flags interval; }
 map any4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
 map any6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
 map one4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
 map one6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
 set open4 { type ipv4_addr . inet_proto . inet_service; }
 set open6 { type ipv6_addr . inet_proto . inet_service; }
 set self4 { type ipv4_addr . ipv4_addr; }
 set self6 { type ipv6_addr . ipv6_addr; }
"""
_TO_CONTAINERS = """
  dnat ip to ip daddr . meta l4proto . th dport map @one4
  dnat ip to meta l4proto . th dport map @any4
  ip6 daddr != ::1 dnat ip6 to ip6 daddr . meta l4proto . th dport map @one6
  ip6 daddr != ::1 dnat ip6 to meta l4proto . th dport map @any6
"""
# Where the bridge hands its packets to this filter itself, a packet that is sent back to its own network
# has no input device: a container that calls itself is known by its address.
# The host's loopback addresses are led to containers for the host's own packets alone: what comes by a
# wire with such an address would else be sent on before the kernel can see that it is forged.
_CHAINS = f"""
 chain to_containers {{{_TO_CONTAINERS} }}
 chain forged {{
  type filter hook prerouting priority raw; policy accept;
  iifname @bridges ip daddr 127.0.0.0/8 drop
 }}
 chain arriving {{
  type nat hook prerouting priority dstnat; policy accept;
  ip daddr != 127.0.0.0/8 fib daddr type local jump to_containers
  meta nfproto ipv6 fib daddr type local jump to_containers
 }}
 chain own {{
  type nat hook output priority -100; policy accept;
  fib daddr type local jump to_containers
 }}
 chain leaving {{
  type nat hook postrouting priority srcnat; policy accept;
  oifname @bridges ip saddr 127.0.0.0/8 masquerade
  iifname . oifname @same ct status dnat masquerade
  ip saddr . ip daddr @self4 masquerade
  ip6 saddr . ip6 daddr @self6 masquerade
  oifname != @bridges ip saddr @hidden4 masquerade
  oifname != @bridges ip6 saddr @hidden6 masquerade
 }}
 chain passing {{
  type filter hook forward priority filter; policy accept;
  ct state established,related accept
  iifname . oifname @same accept
  iifname @internal drop
  oifname @internal drop
  oifname @bridges ct status dnat ip daddr . meta l4proto . th dport @open4 accept
  oifname @bridges ct status dnat ip6 daddr . meta l4proto . th dport @open6 accept
  oifname @bridges drop
 }}
"""


def whole(
    table: str, networks: Iterable[BridgeRules], published: Iterable[Sequence[Published]]
) -> str:
    """Return the commands that make the table as if it had never been there."""
    lines = [f"add table inet {table}", f"delete table inet {table}"]
    lines.append(f"table inet {table} {{{_SETS}{_CHAINS}}}")
    for network in networks:
        lines += _network(table, network)
    for ports in published:
        lines += _ports(table, ports, "add")
    return "\n".join(lines) + "\n"


def add_network(table: str, network: BridgeRules) -> str:
    """Return the commands for one more network."""
    return "\n".join(_network(table, network)) + "\n"


def remove_network(table: str, network: BridgeRules) -> str:
    """Return the commands for one network less."""
    return add_network(table, network).replace("add element", "delete element")


def add_ports(table: str, ports: Sequence[Published]) -> str:
    """Return the commands that publish; they fail where the port leads elsewhere."""
    return "\n".join(_ports(table, ports, "create")) + "\n"


def remove_ports(table: str, ports: Sequence[Published]) -> str:
    """Return the commands that end it."""
    return "\n".join(_ports(table, ports, "delete")) + "\n"


def drop(table: str) -> str:
    """Return the commands after which there is no table."""
    return f"add table inet {table}\ndelete table inet {table}\n"


def _network(table: str, network: BridgeRules) -> list[str]:
    lines = [_element("add", table, "bridges", f'"{network.bridge}"')]
    if network.talks:
        lines.append(_element("add", table, "same", f'"{network.bridge}" . "{network.bridge}"'))
    if network.internal:
        lines.append(_element("add", table, "internal", f'"{network.bridge}"'))
    else:
        lines += [
            _element("add", table, "hidden6" if ":" in subnet else "hidden4", subnet)
            for subnet in network.subnets
        ]
    return lines


def _ports(table: str, ports: Sequence[Published], verb: str) -> list[str]:
    lines: list[str] = []
    opened: set[tuple[str, str, int]] = set()
    for to in dict.fromkeys(one.to for one in ports):
        also = "add" if verb == "create" else verb
        lines.append(_element(also, table, "self6" if ":" in to else "self4", f"{to} . {to}"))
    for one in ports:
        version = "6" if ":" in one.to else "4"
        key, name = f"{one.protocol} . {one.port}", "any"
        if one.address not in ANY:
            key, name = f"{one.address} . {key}", "one"
        value = "" if verb == "delete" else f" : {one.to} . {one.to_port}"
        lines.append(_element(verb, table, name + version, key + value))
        if (one.to, one.protocol, one.to_port) not in opened:
            opened.add((one.to, one.protocol, one.to_port))
            open = f"{one.to} . {one.protocol} . {one.to_port}"
            lines.append(
                _element("add" if verb == "create" else verb, table, "open" + version, open)
            )
    return lines


def _element(verb: str, table: str, name: str, text: str) -> str:
    return f"{verb} element inet {table} {name} {{ {text} }}"


def strict_chains(listing: str, table: str) -> list[str]:
    """Return the chains of others that drop what is forwarded and not allowed there [NET-23].

    Args:
        listing: what ``list ruleset`` or ``list chains`` printed.
    """
    lines: list[str] = []
    owner = chain = ""
    for line in listing.splitlines():
        words = line.split()
        if words[:1] == ["table"]:
            owner = " ".join(words[1:3])
        elif words[:1] == ["chain"]:
            chain = words[1]
        elif "hook forward" in line and "policy drop" in line and owner != f"inet {table}":
            lines.append(f"{owner} {chain}")
    return lines
