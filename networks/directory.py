"""The names of the containers that one container sees, as the records of its networks have them [NET-11, NET-14]."""

from __future__ import annotations

import os
import random
import time

from pybuild.networks import dnsmessages as dns
from pybuild.networks.pools import packed_address
from pybuild.networks.records import ENDPOINTS, NetworkFiles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.networks.records import Network, NetworkEndpoint

_SETTLED_NS = 50_000_000
"""A directory that changed so lately may change again without being seen to."""

_LONG_ID, _SHORT_ID = 64, 12


class Directory:
    """The names for one container; it looks again whenever a record has come or gone."""

    def __init__(self, store: NetworkFiles, container: str) -> None:
        self._store = store
        self._container = container
        self._seen: tuple[tuple[str, int], ...] = ()
        self._names: dict[str, list[NetworkEndpoint]] = {}
        self._by_address: dict[str, str] = {}
        self.is_closed = False

    def answer(self, question: dns.DnsQuestion) -> Sequence[bytes] | None:
        """Return the values of the records for a question, None: no container is called so."""
        self._refresh()
        if question.type == dns.PTR:
            name = self._by_address.get(dns.reversed_address(question.name))
            return None if name is None else [dns.packed_name(name)]
        holders = self._names.get(question.name)
        if holders is None:
            return None
        version = {dns.A: 4, dns.AAAA: 6}.get(question.type)
        if version is None:
            return []
        addresses = [address for one in holders if (address := one.address(version))]
        random.shuffle(addresses)
        return [packed_address(address) for address in addresses]

    def _refresh(self) -> None:
        seen = self._state()
        if seen == self._seen:
            return
        names: dict[str, list[NetworkEndpoint]] = {}
        by_address: dict[str, str] = {}
        mine = [
            network
            for network in self._store.networks()
            if self._store.endpoint(network, self._container) is not None
        ]
        self.is_closed = bool(mine) and all(network.internal for network in mine)
        for network in mine:
            if network.is_user_defined:
                self._learn(network, names, by_address)
        self._link(mine, names)
        self._names, self._by_address = names, by_address
        settled = time.time_ns() - _SETTLED_NS
        self._seen = seen if all(changed < settled for _, changed in seen) else ()

    def _learn(
        self,
        network: Network,
        names: dict[str, list[NetworkEndpoint]],
        by_address: dict[str, str],
    ) -> None:
        for endpoint in self._store.endpoints(network):
            if not os.path.exists(f"/proc/{endpoint.pid}"):
                continue
            for name in endpoint.names:
                for spelled in (name.lower(), f"{name}.{network.name}".lower()):
                    holders = names.setdefault(spelled, [])
                    if endpoint not in holders:
                        holders.append(endpoint)
            for address in endpoint.addresses:
                by_address[address.partition("/")[0]] = f"{endpoint.name}.{network.name}"

    def _link(self, mine: Sequence[Network], names: dict[str, list[NetworkEndpoint]]) -> None:
        """Add the names that this container alone has for others [NET-15]; they win over others' own."""
        linked: dict[str, list[NetworkEndpoint]] = {}
        for network in mine:
            own = self._store.endpoint(network, self._container)
            if own is None or not network.is_user_defined:
                continue
            for container, alias in own.links:
                name = container[:_SHORT_ID] if len(container) == _LONG_ID else container
                if holders := names.get(f"{name}.{network.name}".lower()):
                    for spelled in (alias.lower(), f"{alias}.{network.name}".lower()):
                        linked.setdefault(spelled, []).extend(holders)
        names.update(linked)

    def _state(self) -> tuple[tuple[str, int], ...]:
        folder = self._store.folder
        state: list[tuple[str, int]] = []
        for id in os.listdir(folder):
            try:
                state.append((id, os.stat(f"{folder}/{id}/{ENDPOINTS}").st_mtime_ns))
            except (FileNotFoundError, NotADirectoryError):
                pass
        return tuple(state)
