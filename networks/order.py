"""The order for networks: the part of a container's order that its monitor hands to `attaching`."""

from __future__ import annotations

from pybuild.model.border import NamedTuple

HOST, NONE, BRIDGE, CONTAINER = "host", "none", "bridge", "container:"
"""Modes of a container's network; any other is the name of a network that it is on."""


def has_own_networks(mode: str) -> bool:
    """Whether a container of this mode is on networks."""
    return mode not in (HOST, NONE) and not mode.startswith(CONTAINER)


class PortOrder(NamedTuple):
    """A port to publish.

    Attributes:
        port: of the container.
        address: of the host, "": all, or the network's own choice.
        first, last: of the host: the first that is free is taken; 0: whatever the kernel gives.
    """

    protocol: str
    port: int
    address: str = ""
    first: int = 0
    last: int = 0


class EndpointOrder(NamedTuple):
    """A network to be on, by name or id.

    Attributes:
        addresses: to have there, one for each version of IP at most.
        priority: of its gateway among those of all networks.
        links: further names of other containers, for this one alone: ``(container, alias)``.
    """

    network: str
    aliases: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    mac: str = ""
    priority: int = 0
    links: tuple[tuple[str, str], ...] = ()

    def without_link(self, alias: str) -> EndpointOrder:
        """Return the place without the link of that alias, if it is on the default bridge."""
        if self.network != BRIDGE:
            return self
        return self._replace(links=tuple(one for one in self.links if one[1] != alias))


class NetworkOrder(NamedTuple):
    """All of it.

    Attributes:
        folder: of the store's networks.
        container, name, hostname: of the container.
        resolv_conf: the text where names are not answered by us.
        servers: asked for the names that are no container's; *are_given*: for this container, so
            that their loopback addresses are its own, not this machine's.
        search, options: of its resolv.conf where names are answered by us.
        hosts: further names, with their addresses; ``host-gateway`` stands for the gateway's.
        files: those of ``/etc/hosts`` and ``/etc/resolv.conf`` that are ours: nothing is mounted there.
    """

    folder: str
    container: str
    name: str
    hostname: str
    endpoints: tuple[EndpointOrder, ...]
    ports: tuple[PortOrder, ...] = ()
    resolv_conf: str = ""
    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    hosts: tuple[tuple[str, str], ...] = ()
    files: tuple[str, ...] = ()
    are_given: bool = False
