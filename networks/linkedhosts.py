"""Links of the default bridge: lines of a container's hosts file that follow the container they name [NET-15].

On other networks a link is a name that `directory` answers for one container alone.

<root>/networks/links/CHILD/PARENT   empty: the helper of PARENT is called when CHILD comes, or is renamed
"""

from __future__ import annotations

import os
import re

from pybuild.networks import calling
from pybuild.networks.order import BRIDGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pybuild.networks.attaching import Attachment

LINKS = "links"


def linked_lines(made: Attachment) -> list[str]:
    """Return the lines about the linked containers that run: the alias first, then their own names."""
    lines: list[str] = []
    for child, alias in _links(made):
        for network, _ in made.places:
            endpoint = made.store.endpoint(network, child)
            if network.is_user_defined or endpoint is None:
                continue
            names = dict.fromkeys((alias, *reversed(endpoint.names)))
            lines.append(f"{endpoint.address(4)}\t{' '.join(names)}")
    return lines


def sign(made: Attachment) -> None:
    """Ask to be called when a linked container comes."""
    for child, _ in _links(made):
        place = _place(made, child)
        os.makedirs(place, 0o700, exist_ok=True)
        os.close(os.open(os.path.join(place, made.order.container), os.O_WRONLY | os.O_CREAT))


def sign_off(made: Attachment) -> None:
    for child, _ in _links(made):
        place = _place(made, child)
        try:
            os.unlink(os.path.join(place, made.order.container))
            os.rmdir(place)
        except OSError:
            pass  # others are linked to it, too


def unlink(made: Attachment, alias: str) -> None:
    """Forget the link of that alias; the hosts file is the caller's to write."""
    sign_off(made)
    endpoints = tuple(one.without_link(alias) for one in made.order.endpoints)
    made.order = made.order._replace(endpoints=endpoints)
    sign(made)


def call_linked(made: Attachment) -> None:
    """Have the helpers of the containers that are linked to this one look at it again."""
    for parent in _parents(made):
        try:
            calling.call(made.order.folder, parent, "linked")
        except OSError:
            pass  # it does not answer: it looks when it comes


def _links(made: Attachment) -> Iterator[tuple[str, str]]:
    """Yield the ids of the containers that this one is linked to on the default bridge, with their aliases."""
    for one in made.order.endpoints:
        if one.network == BRIDGE:
            yield from (link for link in one.links if re.fullmatch(r"[0-9a-f]{64}", link[0]))


def _parents(made: Attachment) -> Sequence[str]:
    try:
        return os.listdir(_place(made, made.order.container))
    except FileNotFoundError:
        return ()


def _place(made: Attachment, child: str) -> str:
    return os.path.join(made.order.folder, LINKS, child)
