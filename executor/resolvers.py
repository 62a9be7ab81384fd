"""The name servers of a build's steps: one resolv.conf for each kind of network."""

from __future__ import annotations

import asyncio

from pybuild.executor import network
from pybuild.executor.steps import execop
from pybuild.model.ops import NetworkMode


class Resolvers:
    """The resolv.conf of one build's steps.

    Args:
        dns: overrides of the host's resolver settings.
        isolated: steps that ask for no other network get one of their own.
    """

    def __init__(self, dns: network.DnsSettings | None, isolated: bool) -> None:
        self._dns = dns
        self._isolated = isolated
        self._known: dict[NetworkMode, str] = {}

    async def of(self, mode: NetworkMode) -> str:
        """Return the resolv.conf of steps with that network; the same throughout the build."""
        if mode not in self._known:
            self._known[mode] = await asyncio.to_thread(self._text, mode)
        return self._known[mode]

    def _text(self, mode: NetworkMode) -> str:
        if execop.has_own_network(mode, self._isolated):
            from pybuild.executor.zygote.usernet import NAME_SERVER  # with all of its calls

            server = f"nameserver {NAME_SERVER}\n"
            return network.resolv_conf(server, host_network=True, dns=self._dns)
        host_network = execop.uses_host_network(mode)
        return network.step_resolv_conf(host_network=host_network, dns=self._dns)
