"""The networks of a store, for commands: made, found, told of and removed [NET-1, NET-2]."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from itertools import zip_longest
from typing import Any

from pybuild.cache.disk import journal
from pybuild.cache.disk.atomic import faults
from pybuild.cache.disk.locks import locked
from pybuild.executor.zygote.faults import Fault
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.networks import kernelstate, pools
from pybuild.networks.attaching import check_addresses, leave
from pybuild.networks.order import EndpointOrder
from pybuild.networks.records import (
    BRIDGE,
    HOST,
    NONE,
    PREDEFINED,
    TABLE,
    Network,
    NetworkEndpoint,
    NetworkFiles,
    Subnet,
    endpoint_id,
)
from pybuild.networks.rtnetlink import Rtnetlink, index_of

_DEVICE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")
_NAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_. -]*[a-zA-Z0-9_.-])?\Z")
_DEVICE_BYTES = 15
_OVERLAPS = "invalid pool request: Pool overlaps with other one on this address space"
_BRIDGE_OPTION = "com.docker.network.bridge."
_BIND = _BRIDGE_OPTION + "host_binding_ipv4"
_MTU = "com.docker.network.driver.mtu"
_DRIVERS_OF_DOCKER = ("ipvlan", "macvlan", "overlay")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewNetwork:
    """A network as somebody wants it; the lists of addresses belong to *subnets* in order.

    Attributes:
        reserved: addresses that nobody gets, each alone or as ``NAME=ADDRESS``.
    """

    name: str
    driver: str = "bridge"
    subnets: Sequence[str] = ()
    gateways: Sequence[str] = ()
    ranges: Sequence[str] = ()
    reserved: Sequence[str] = ()
    internal: bool = False
    attachable: bool = False
    ipv6: bool = False
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


class Networks:
    """All networks of the store whose directory is *root*."""

    def __init__(self, root: str) -> None:
        self._root = root
        self.records = NetworkFiles(os.path.join(root, "networks"))

    @contextmanager
    def changing(self) -> Generator[None]:
        """Hold the lock of all networks; those that each store has are there then, and nothing dead.

        Raises:
            UserError, EnvironmentFault: what the block could not do.
        """
        try:
            with faults("cannot keep networks", self._root):
                os.makedirs(self.records.folder, 0o700, exist_ok=True)
            with locked(self.records.lock):
                with faults("cannot keep networks", self._root):
                    self._have_predefined()
                    kernelstate.sweep(self.records)
                yield
        except Fault as fault:
            kind = UserError if fault.kind == "user" else EnvironmentFault
            raise kind(fault.message, hints=fault.hints) from fault

    def _have_predefined(self) -> None:
        path = os.path.join(self.records.folder, TABLE)
        if not os.path.exists(path):
            with open(path + ".new", "w", encoding="ascii") as file:
                file.write(f"pybuild_{secrets.token_hex(4)}")
            os.rename(path + ".new", path)
        present = {one.name for one in self.records.networks()}
        for name in (one for one in PREDEFINED if one not in present):
            if name == BRIDGE:
                self._make(NewNetwork(name=name))
            else:
                driver = {HOST: "host", NONE: "null"}[name]
                self.records.add(Network(_new_id(), name, driver, time.time_ns()))

    def have_predefined(self) -> None:
        """Have the networks that each store has; one where nothing was ever connected has none yet."""
        if not {one.name for one in self.records.networks()}.issuperset(PREDEFINED):
            with self.changing():
                pass

    def all(self) -> list[Network]:
        """Return all of them, by name."""
        with self.changing():
            return self.records.networks()

    def find(self, text: str) -> Network:
        """Return the network with this name or id.

        Raises:
            UserError: there is none.
        """
        with self.changing():
            return self.records.find(text)

    def check(self, network: Network, place: EndpointOrder) -> None:
        """See that a container can have such a place on a network.

        Raises:
            UserError: an address cannot be one of the network's.
        """
        with self.changing():
            check_addresses(network, place)

    def forget_place(self, network: Network, container: str) -> bool:
        """Take a container off a network whose helper is gone; False: it is not there."""
        with self.changing():
            return leave(self.records, network, container)

    def create(self, order: NewNetwork) -> Network:
        """Make a network; the kernel has it from its first container on.

        Raises:
            UserError: it cannot be as it is wanted.
        """
        _check(order)
        with self.changing():
            for one in self.records.networks():
                if one.name == order.name:
                    raise UserError(
                        f"network with name {order.name} already exists",
                        hints=["take another name, or remove it: pybuild network rm"],
                    )
                if one.bridge and one.bridge == order.options.get(_BRIDGE_OPTION + "name"):
                    raise UserError(
                        f"the bridge {one.bridge} is that of network {one.name} already",
                        hints=[f"take another name for {_BRIDGE_OPTION}name"],
                    )
            made = self._make(order)
        self._note("create", made)
        return made

    def _note(self, action: str, network: Network) -> None:
        about = {"name": network.name, "type": network.driver}
        journal.note(self._root, journal.NETWORK, action, network.id, about)

    def _make(self, order: NewNetwork) -> Network:
        id = _new_id()
        subnets = self._subnets(order, id)
        options = dict(order.options)
        network = Network(
            id=id,
            name=order.name,
            driver=order.driver,
            created=time.time_ns(),
            bridge=options.get(_BRIDGE_OPTION + "name", f"br-{id[:12]}"),
            subnets=tuple(subnets),
            internal=order.internal,
            attachable=order.attachable,
            ipv6=any(":" in one.prefix for one in subnets),
            talks=_switch(options, _BRIDGE_OPTION + "enable_icc"),
            hides=_switch(options, _BRIDGE_OPTION + "enable_ip_masquerade"),
            bind=options.get(_BIND, ""),
            mtu=_mtu(options),
            options=options,
            labels=dict(order.labels),
        )
        if index_of(network.bridge):
            raise UserError(
                f"there is a network device {network.bridge} already, which is not ours",
                hints=[f"take another name for {_BRIDGE_OPTION}name"],
            )
        with faults(f"cannot make network {order.name}", self._root):
            self.records.add(network)
        return network

    def _subnets(self, order: NewNetwork, id: str) -> list[Subnet]:
        taken = [
            pools.Block(subnet.prefix) for one in self.records.networks() for subnet in one.subnets
        ]
        given = [_block(text) for text in order.subnets]
        if len({block.bits for block in given}) < len(given):
            raise UserError(
                "a network cannot have several subnets of one version of IP",
                hints=["make a network for each; a container can be on several"],
            )
        for block in given:
            if any(block.overlaps(other) for other in taken):
                raise UserError(
                    f"subnet {block}: {_OVERLAPS}",
                    hints=["pybuild network inspect shows the subnets that are taken"],
                )
            taken.append(block)
        blocks = list(given)
        if not any(block.bits == 32 for block in given):
            blocks.insert(0, self._free(taken))
        if order.ipv6 and not any(block.bits == 128 for block in given):
            blocks.append(pools.unique_local(_machine(), id))
        return [_subnet(block, order, is_given=block in given) for block in blocks]

    def _free(self, taken: Sequence[pools.Block]) -> pools.Block:
        with Rtnetlink() as kernel:
            routed = [
                pools.Block(
                    f"{pools.shown(int.from_bytes(address, 'big'), len(address) * 8)}/{prefix}"
                )
                for address, prefix, _ in kernel.prefixes()
            ]
        pool = pools.free_pool([*taken, *routed])
        if pool is None:
            raise UserError(
                "all predefined address pools have been fully subnetted",
                hints=[
                    "choose one: --subnet 10.123.0.0/24",
                    "or remove networks: pybuild network prune",
                ],
            )
        return pool

    def remove(self, text: str) -> Network:
        """Remove a network, and return it.

        Raises:
            UserError: there is none, it is one that each store has, or a container is on it.
        """
        with self.changing():
            network = self.records.find(text)
            if not network.is_user_defined:
                raise UserError(f"{network.name} is a pre-defined network and cannot be removed")
            endpoints = self.records.endpoints(network)
            if endpoints:
                names = ", ".join(sorted(one.name for one in endpoints))
                raise UserError(
                    f"network {network.name} has active endpoints: {names}",
                    hints=[f"stop them, or: pybuild network disconnect {network.name} NAME"],
                )
            kernelstate.remove_bridge(self.records, network)
            self.records.remove(network)
        self._note("destroy", network)
        return network

    def prune(self, is_needed: Callable[[Network], bool]) -> list[Network]:
        """Remove the networks that no container is on or refers to, and return them."""
        removed: list[Network] = []
        with self.changing():
            for network in self.records.networks():
                if not network.is_user_defined or is_needed(network):
                    continue
                if not self.records.endpoints(network):
                    kernelstate.remove_bridge(self.records, network)
                    self.records.remove(network)
                    removed.append(network)
                    self._note("destroy", network)
        return removed


def inspection(network: Network, endpoints: Sequence[NetworkEndpoint]) -> dict[str, Any]:
    """Return a network's document as docker's inspect has it."""
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": _time(network.created),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": True,
        "EnableIPv6": network.ipv6,
        "IPAM": {
            "Driver": "default",
            "Options": {},
            "Config": [_pool(subnet) for subnet in network.subnets],
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {one.container: _member(one) for one in endpoints},
        "Options": _shown_options(network),
        "Labels": dict(network.labels),
    }


def _member(endpoint: NetworkEndpoint) -> dict[str, str]:
    with_prefix = {":" in address: address for address in endpoint.addresses}
    return {
        "Name": endpoint.name,
        "EndpointID": endpoint_id(endpoint),
        "MacAddress": endpoint.mac,
        "IPv4Address": with_prefix.get(False, ""),
        "IPv6Address": with_prefix.get(True, ""),
    }


def _pool(subnet: Subnet) -> dict[str, Any]:
    shown: dict[str, Any] = {"Subnet": subnet.prefix, "Gateway": subnet.gateway}
    if subnet.range:
        shown["IPRange"] = subnet.range
    if subnet.reserved:
        names = zip_longest(subnet.reserved, subnet.reserved_names)
        shown["AuxiliaryAddresses"] = {
            name or f"aux{number}": text for number, (text, name) in enumerate(names)
        }
    return shown


def _shown_options(network: Network) -> dict[str, str]:
    if network.name != BRIDGE:
        return dict(network.options)
    return {
        _BRIDGE_OPTION + "default_bridge": "true",
        _BRIDGE_OPTION + "enable_icc": "true",
        _BRIDGE_OPTION + "enable_ip_masquerade": "true",
        _BRIDGE_OPTION + "host_binding_ipv4": "0.0.0.0",
        _BRIDGE_OPTION + "name": network.bridge,
        _MTU: "1500",
    }


def _check(order: NewNetwork) -> None:
    if not _NAME.match(order.name):
        raise UserError(
            f"invalid network name ({order.name}): only [a-zA-Z0-9][a-zA-Z0-9_. -] are allowed",
            hints=["begin it with a letter or a digit, and use letters, digits, _, . and - alone"],
        )
    if order.name in (*PREDEFINED, "default"):
        raise UserError(
            f"operation is not permitted on predefined {order.name} network",
            hints=["take another name"],
        )
    if order.driver in _DRIVERS_OF_DOCKER:
        raise UserError(
            f"networks of driver {order.driver} cannot be had: only bridge can",
            hints=["leave out --driver"],
        )
    if order.driver != "bridge":
        raise UserError(
            f"invalid network driver: {order.driver}: expected bridge", hints=["leave out --driver"]
        )
    bridge = order.options.get(_BRIDGE_OPTION + "name", "br")
    if not 0 < len(bridge.encode()) <= _DEVICE_BYTES or not _DEVICE.match(bridge):
        raise UserError(f'invalid name of a bridge: "{bridge}": at most {_DEVICE_BYTES} letters')
    bind = order.options.get(_BIND, "")
    if bind and ":" in _spelled(bind):
        raise UserError(f"option {_BIND}: {bind} is not an address of IP version 4")
    if len(order.gateways) > len(order.subnets) or len(order.ranges) > len(order.subnets):
        raise UserError(
            "every ip-range or gateway must have a corresponding subnet",
            hints=["give the subnet, too: --subnet 172.30.0.0/16"],
        )


def _block(text: str) -> pools.Block:
    try:
        return pools.Block(text)
    except ValueError as error:
        raise UserError(str(error), hints=["write a subnet as 172.30.0.0/16"]) from None


def _subnet(block: pools.Block, order: NewNetwork, *, is_given: bool) -> Subnet:
    given = [_block(text) for text in order.subnets]
    ranges = [_block(text) for text in order.ranges]
    gateways = [_spelled(text) for text in order.gateways]
    reserved = {_spelled(text.rpartition("=")[2]): text for text in order.reserved}
    for text in (*gateways, *reserved):
        if not any(one.holds(text) for one in given):
            raise UserError(f"no matching subnet for {text}")
    for part in ranges:
        if not any(one.includes(part) for one in given):
            raise UserError(f"no matching subnet for range {part}")
    ours = [one for one in gateways if block.holds(one)]
    parts = [one for one in ranges if block.includes(one)]
    if len(ours) > 1 or len(parts) > 1:
        raise UserError(
            f"cannot configure multiple {'gateways' if len(ours) > 1 else 'ranges'} on the same "
            f"subnet ({block})"
        )
    return Subnet(
        prefix=str(block),
        gateway=ours[0] if ours else pools.first_address(parts[0] if parts else block),
        range=str(parts[0]) if parts else "",
        reserved=tuple(one for one in reserved if block.holds(one)),
        reserved_names=tuple(
            text.rpartition("=")[0] for one, text in reserved.items() if block.holds(one)
        ),
        given=is_given,
    )


def _spelled(address: str) -> str:
    try:
        return pools.spelled(address)
    except ValueError as error:
        raise UserError(str(error)) from None


def _switch(options: Mapping[str, str], name: str) -> bool:
    text = options.get(name, "true").lower()
    if text not in ("1", "t", "true", "0", "f", "false"):
        raise UserError(f'option {name}: invalid value "{text}": true or false')
    return text in ("1", "t", "true")


def _mtu(options: Mapping[str, str]) -> int:
    text = options.get(_MTU, "0")
    if not text.isdecimal() or len(text) > 5 or not (int(text) == 0 or 68 <= int(text) <= 65535):
        raise UserError(f'option {_MTU}: invalid value "{text}": 68 to 65535')
    return int(text)


def _machine() -> str:
    try:
        with open("/etc/machine-id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _new_id() -> str:
    while True:
        id = secrets.token_hex(32)
        if not id[:12].isdecimal():
            return id


def _time(ns: int) -> str:
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"
