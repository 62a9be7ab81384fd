"""The table of the network of builds, as text of nft's language. Pure.

To replace it takes some 10 ms, of waiting, and to list it 0.2. So it bears a mark, by which the next build
sees that it is as it was made, whatever others have done to the packet filter meanwhile.
"""

from __future__ import annotations

from zlib import adler32, crc32

BRIDGE = "pybuild0"
TABLE = "pybuild_builds"
_GUARD = "no_router"
_MARK = "as_"
# A step reaches neither the host's loopback addresses nor the link-local ones, at which clouds give
# out credentials; its packets bear an address of the network, and of IP version 4.
_CHAINS = """
 chain forged {{
  type filter hook prerouting priority raw; policy accept;
  iifname "{bridge}" ip daddr {{ 127.0.0.0/8, 169.254.0.0/16 }} drop
  iifname "{bridge}" meta nfproto ipv6 drop
  iifname "{bridge}" ip saddr != {subnet} drop
 }}
 chain leaving {{
  type nat hook postrouting priority srcnat; policy accept;
  oifname != "{bridge}" ip saddr {subnet} masquerade
 }}
 chain passing {{
  type filter hook forward priority filter; policy accept;
  oifname "{bridge}" ct state established,related accept
  oifname "{bridge}" drop
 }}
"""
# A name server that answers this machine alone is asked as if it was the machine that asks.
_NAMES = """
 chain asking {{
  type nat hook prerouting priority dstnat; policy accept;
  iifname "{bridge}" ip daddr {gateway} meta l4proto {{ tcp, udp }} th dport 53 dnat ip to {server}
 }}
 chain asked {{
  type nat hook input priority 100; policy accept;
  iifname "{bridge}" ip daddr 127.0.0.0/8 snat ip to 127.0.0.1
 }}
"""
# Bridges are others' networks of containers and virtual machines, which look after themselves.
_NO_ROUTER = """
 chain {guard} {{
  type filter hook forward priority filter; policy accept;
  iifname != "{bridge}" meta iifkind != "bridge" oifname != "{bridge}" meta oifkind != "bridge" drop
 }}
"""


def table(gateway: str, subnet: str, server: str, *, guarded: bool) -> str:
    """Return the commands that make the table as if it had never been there.

    Args:
        gateway: the address of the bridge in *subnet*.
        server: the name server that is asked at the gateway, "": none.
        guarded: this machine was no router before us, and is to be none for others.
    """
    chains = _CHAINS + (_NAMES if server else "") + (_NO_ROUTER if guarded else "")
    text = chains.format(bridge=BRIDGE, subnet=subnet, gateway=gateway, server=server, guard=_GUARD)
    return f"add table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{{text}}}\n"


def mark(table: str, listing: str) -> str:
    """Return the command that adds the mark; *listing* is what *table* was listed as once it was made."""
    return f"add chain inet {TABLE} {_mark(table, listing)}"


def is_as_made(table: str, listing: str) -> bool:
    """Whether what is listed was made by *table*, and nobody has changed it since."""
    before, mark, rest = listing.partition(f"\tchain {_MARK}")
    unmarked = before + rest.partition("\t}\n")[2] if mark else listing
    return f"chain {_mark(table, unmarked)} " in listing


def _mark(table: str, listing: str) -> str:
    # No digest of cryptography: who may change the table may give it any mark. Steps would pay for its library,
    # which each process forked for them would inherit.
    known = f"{table}\n{_blank(listing)}".encode()
    return f"{_MARK}{crc32(known):08x}{adler32(known):08x}"


def _blank(listing: str) -> str:
    """Return a listing without its empty lines, which part chains."""
    return "\n".join(line for line in listing.splitlines() if line)


def is_guarded(listing: str) -> bool:
    """Whether the table has that guard; *listing* is what ``list chains`` printed."""
    return f"chain {_GUARD} " in listing
