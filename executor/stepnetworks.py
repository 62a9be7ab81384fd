"""The network of a build's steps that ask for none, one of their own where it can be had, and their name servers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import NamedTuple

from pybuild.executor import network
from pybuild.executor.steps.spec import Connecting
from pybuild.executor.workers.job import JobService
from pybuild.executor.workers.workers import Workers
from pybuild.model.errors import EnvironmentFault, InternalError
from pybuild.model.ops import NetworkMode, StepSettings

Connect = Callable[[JobService, str], Awaitable[Connecting]]
"""Has the network that steps are connected to made ready, in a worker, and returns how they get there.

Its second argument is a name server that only this machine reaches, for them to ask, "" for none. It
raises EnvironmentFault where there can be no such network.
"""

HOST, ISOLATED = "host", "isolated"
_NEEDS_ROOT = 'one of their own needs root, or slirp4netns and [network] mode = "isolated"'
_HOW = {HOST: "default", ISOLATED: "isolated"}


class DefaultNetwork:
    """Finds it out once, when the first step comes.

    Args:
        mode: ``host``, ``isolated``, or ``auto``: the best that can be had.
        connect: None where there is no such network.

    Attributes:
        obstacle: why steps have this machine's network, "": they have not, or are meant to.
    """

    def __init__(self, workers: Workers, mode: str, connect: Connect | None) -> None:
        self.obstacle = ""
        self._workers = workers
        self._mode = mode
        self._connect = connect
        self._known: asyncio.Task[Connecting | None] | None = None

    def foresee(self, steps: int) -> None:
        """Begin to find it out, and have namespaces made ahead for so many steps, as far as that helps."""
        if self._mode != HOST and self._connect is not None and self._known is None:
            self._known = asyncio.create_task(self._find_ahead(self._connect, steps))

    async def close(self) -> None:
        """Give up what was foreseen, should no step have come."""
        if self._known is not None and not self._known.done():
            self._known.cancel()
            await asyncio.wait([self._known])

    async def of(self, mode: NetworkMode) -> tuple[str, Connecting | None]:
        """Return the sandbox's word for the network of a step with this *mode*, and how it gets there."""
        if mode is not NetworkMode.DEFAULT:
            return mode.value, None
        if self._mode == HOST or self._connect is None:
            return _HOW.get(self._mode, "default"), None
        if self._known is None:
            self._known = asyncio.create_task(self._find(self._connect))
        known = await asyncio.shield(self._known)
        return ("connected", known) if known else (_HOW.get(self._mode, "default"), None)

    async def _find_ahead(self, connect: Connect, steps: int) -> Connecting | None:
        known = await self._find(connect)
        if known is not None:
            await self._workers.connect_ahead(known, steps)
        return known

    async def _find(self, connect: Connect) -> Connecting | None:
        if await self._workers.isolation() != "root":
            if self._mode != ISOLATED:
                self.obstacle = _NEEDS_ROOT
            return None
        try:
            return await connect(self._workers, network.local_server())
        except (EnvironmentFault, InternalError) as error:
            if self._mode != ISOLATED:
                self.obstacle = error.message.partition("\n")[0]
            return None

    def line(self) -> str:
        """Return a build's line about it, "" where there is none."""
        return f"steps share this machine's network: {self.obstacle}\n" if self.obstacle else ""


class _Dns(NamedTuple):
    nameservers: Sequence[str] = ()
    search_domains: Sequence[str] = ()
    options: Sequence[str] = ()


class Resolvers:
    """The resolv.conf of one build's steps.

    Args:
        dns: overrides of the host's resolver settings.
    """

    def __init__(self, dns: network.DnsSettings | None) -> None:
        self._dns = (
            _Dns() if dns is None else _Dns(dns.nameservers, dns.search_domains, dns.options)
        )
        self._known: dict[Hashable, str] = {}

    def of(self, settings: StepSettings, connection: str, connecting: Connecting | None) -> str:
        """Return the resolv.conf of steps with those settings; the same throughout the build.

        Args:
            connection, connecting: as in `execop.spec`.
        """
        gateway = connecting.gateway if connecting else ""
        dns = (settings.nameservers, settings.search_domains, settings.dns_options)
        key = (connection, gateway, *dns)
        if key not in self._known:
            own = _Dns(*(given or ours for given, ours in zip(dns, self._dns, strict=True)))
            self._known[key] = self._text(connection, gateway, own)
        return self._known[key]

    def _text(self, connection: str, gateway: str, dns: network.DnsSettings) -> str:
        if connection == "isolated":
            from pybuild.executor.zygote.usernet import NAME_SERVER  # with all of its calls

            server = f"nameserver {NAME_SERVER}\n"
            return network.resolv_conf(server, host_network=True, dns=dns)
        # In these the loopback addresses of the host's name servers are the host's.
        host_network = connection in ("default", "host")
        return network.step_resolv_conf(host_network=host_network, dns=dns, gateway=gateway)
