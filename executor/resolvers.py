"""The name servers of a build's steps: one resolv.conf for each kind of network."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from pybuild.executor import network
from pybuild.executor.steps import execop
from pybuild.model.ops import NetworkMode, StepSettings


class _Dns(NamedTuple):
    nameservers: Sequence[str] = ()
    search_domains: Sequence[str] = ()
    options: Sequence[str] = ()


class Resolvers:
    """The resolv.conf of one build's steps.

    Args:
        dns: overrides of the host's resolver settings.
        isolated: steps that ask for no other network get one of their own.
    """

    def __init__(self, dns: network.DnsSettings | None, isolated: bool) -> None:
        self._dns = (
            _Dns() if dns is None else _Dns(dns.nameservers, dns.search_domains, dns.options)
        )
        self._isolated = isolated
        self._known: dict[Hashable, str] = {}

    async def of(self, settings: StepSettings) -> str:
        """Return the resolv.conf of steps with those settings; the same throughout the build."""
        dns = (settings.nameservers, settings.search_domains, settings.dns_options)
        key = (settings.network, *dns)
        if key not in self._known:
            own = _Dns(*(given or ours for given, ours in zip(dns, self._dns, strict=True)))
            self._known[key] = await asyncio.to_thread(self._text, settings.network, own)
        return self._known[key]

    def _text(self, mode: NetworkMode, dns: network.DnsSettings) -> str:
        if execop.has_own_network(mode, self._isolated):
            from pybuild.executor.zygote.usernet import NAME_SERVER  # with all of its calls

            server = f"nameserver {NAME_SERVER}\n"
            return network.resolv_conf(server, host_network=True, dns=dns)
        host_network = execop.uses_host_network(mode)
        return network.step_resolv_conf(host_network=host_network, dns=dns)
