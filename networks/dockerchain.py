"""The chain that docker keeps for others, by which packets of our bridges pass [NET-23]. Pure.

Where docker runs, all that is forwarded is dropped unless somebody accepts it; who is asked first is this chain.
What may come to a bridge, our own tables decide, which are asked as well.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

STRICT = "ip filter FORWARD"
"""Docker's own chain that drops."""
LISTED = "list chain ip filter DOCKER-USER"
"""The command that lists it; what a bridge has in it is taken back by numbers, which are listed, too."""
_RULE = "ip filter DOCKER-USER"
_NUMBER = " # handle "


def decides(listing: str) -> bool:
    """Whether docker alone decides what is forwarded; *listing* is what ``list chains`` printed."""
    return "chain DOCKER-USER " in listing and "chain ufw-" not in listing


def alone_drops(strict: Sequence[str], listing: str) -> bool:
    """Whether docker's is the only one of the chains that drop, and lets pass what its chain for others does."""
    return list(strict) == [STRICT] and decides(listing)


def let_pass(bridge: str, listed: str) -> str:
    """Return the commands that let packets of a bridge pass, "": *listed* has them."""
    if f'"{bridge}"' in listed:
        return ""
    ways = ("iifname", "oifname")
    return "".join(f'insert rule {_RULE} {way} "{bridge}" accept\n' for way in ways)


def take_back(bridge: str, listed: str) -> str:
    """Return the commands that remove the rules of a bridge, "": *listed* has none."""
    numbers = [
        line.rpartition(_NUMBER)[2].strip()
        for line in listed.splitlines()
        if f'"{bridge}"' in line and _NUMBER in line
    ]
    return "".join(f"delete rule {_RULE} handle {number}\n" for number in numbers)
