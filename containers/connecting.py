"""Containers brought to networks, taken off them, and renamed there, whether they run or not [NET-30].

A container that runs is connected by the process beside it, which serves its networks; its config then
says so for the next run, and so does the order of this one, by which its policy may start it again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from pybuild.cache.store import Store
from pybuild.containers.config import ContainerConfig
from pybuild.containers.container import Container
from pybuild.containers.containers import Containers
from pybuild.containers.linking import link_of
from pybuild.containers.order import read_order, write_order
from pybuild.containers.steps import networks_of
from pybuild.executor.workers.launch import error_of
from pybuild.model.border import packed
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.networks.calling import call
from pybuild.networks.listing import is_chosen, prune_matcher
from pybuild.networks.networks import Networks
from pybuild.networks.order import CONTAINER, HOST, NONE, EndpointOrder, has_own_networks
from pybuild.networks.records import Network

_SHARED = (
    "container sharing network namespace with another container or host cannot be connected to any "
    "other network"
)
_NO_NETWORK = "container cannot be connected to multiple networks with one of the networks in private (none) mode"
_HOST = "container cannot be disconnected from host network or connected to host network"
_ANEW = ["create another container, with --network"]


def connect(containers: Containers, container: Container, place: EndpointOrder) -> Sequence[str]:
    """Bring a container to one more network; return warnings.

    Raises:
        UserError, EnvironmentFault: it cannot be on that network.
    """
    networks = Networks(containers.root)
    network = networks.find(place.network)
    place = place._replace(network=network.name)
    with containers.turn(container) as now:
        config = now.config
        _check_mode(config, network)
        if place.links and not network.is_user_defined:
            raise UserError(
                "links are only supported for user-defined networks", hints=["leave out --link"]
            )
        networks.check(network, place)
        others = _without(config, networks, network)
        runs = bool(now.state().pid)
        warnings: Sequence[str] = ()
        if runs:
            warnings = _call(networks, config, "connect", packed(place))
        _keep(containers, now, config._replace(networks=(*others, place)), runs=runs)
    return warnings


def disconnect(
    containers: Containers, container: Container, name: str, *, force: bool = False
) -> None:
    """Take a container off a network.

    Args:
        force: also where the network is not there any more, or nobody serves the container.

    Raises:
        UserError, EnvironmentFault: it is not on that network, or cannot be taken off it.
    """
    networks = Networks(containers.root)
    with containers.turn(container) as now:
        config = now.config
        runs = bool(now.state().pid)
        try:
            network = networks.find(name)
        except UserError:
            if runs and not force:
                raise
            network = Network("", name)
        if config.network == HOST and network.name == HOST:
            raise UserError(_HOST, hints=_ANEW)
        others = _without(config, networks, network)
        is_known = others != config.networks
        if runs and network.id:
            try:
                _call(networks, config, "disconnect", network.id)
            except (UserError, EnvironmentFault):
                if not force or not networks.forget_place(network, config.id):
                    raise
        elif not is_known:
            raise UserError(
                f"container {config.id} is not connected to the network {network.name}",
                hints=[f"pybuild inspect {config.name} shows the networks that it is on"],
            )
        if is_known:
            _keep(containers, now, config._replace(networks=others), runs=runs)


def rename(containers: Containers, container: Container, name: str) -> None:
    """Give a container another name, by which others find it at once.

    Raises:
        UserError: the name is none, is its own, or is taken.
    """
    containers.rename(container, name)
    with containers.turn(container) as now:
        config = now.config
        if now.state().pid and has_own_networks(config.network):
            with suppress(EnvironmentFault):  # the helper that follows has it from the order
                _call(Networks(containers.root), config, "rename", config.name)
            _keep_order(containers, now, config)


def unlink(containers: Containers, name: str) -> None:
    """Remove the link ``PARENT/ALIAS`` of the default bridge, also from a container that runs [NET-15].

    Raises:
        UserError: there is none.
    """
    parent, alias = link_of(containers.find, name)
    with containers.turn(parent) as now:
        config, runs = now.config, bool(now.state().pid)
        places = tuple(one.without_link(alias) for one in config.networks)
        if runs:
            with suppress(EnvironmentFault):  # the helper that follows has it from the order
                _call(Networks(containers.root), config, "unlink", alias)
        _keep(containers, now, config._replace(networks=places), runs=runs)


def _check_mode(config: ContainerConfig, network: Network) -> None:
    """Refuse what a container of this kind cannot be connected to."""
    if config.network == HOST or config.network.startswith(CONTAINER):
        raise UserError(_SHARED, hints=_ANEW)
    if network.name == HOST:
        raise UserError(_HOST, hints=_ANEW)
    if NONE in (config.network, network.name):
        raise UserError(_NO_NETWORK, hints=_ANEW)


def _without(
    config: ContainerConfig, networks: Networks, network: Network
) -> tuple[EndpointOrder, ...]:
    """Return the networks of a container but one, by whatever name it has that."""
    kept: list[EndpointOrder] = []
    for place in config.networks:
        known = place.network
        with suppress(UserError):
            known = networks.find(place.network).name
        if known != network.name:
            kept.append(place)
    return tuple(kept)


def _call(networks: Networks, config: ContainerConfig, *message: object) -> Sequence[str]:
    """Have the process that serves a container do something; return warnings."""
    try:
        answer = call(networks.records.folder, config.id, *message)
    except OSError as error:
        raise EnvironmentFault(
            f"the process that serves the networks of container {config.name} does not answer: "
            f"{(error.strerror or str(error)).lower()}",
            hints=[f"pybuild restart {config.name} gives it another"],
        ) from error
    if answer is None:
        raise EnvironmentFault(
            f"nobody serves the networks of container {config.name}: its helper was killed, or it "
            "has just ended",
            hints=[f"try again: another follows; or pybuild restart {config.name}"],
        )
    if answer[0] == "fault":
        raise error_of(answer)
    return list(answer[1])


def _keep(containers: Containers, now: Container, config: ContainerConfig, *, runs: bool) -> None:
    """Have the next run on these networks, too."""
    containers.write(now, config)
    if runs:
        _keep_order(containers, now, config)


def _keep_order(containers: Containers, now: Container, config: ContainerConfig) -> None:
    with now.home() as home, suppress(ValueError):
        folder = os.path.join(containers.root, "networks")
        write_order(home, read_order(home)._replace(networks=networks_of(config, folder)))


def prune_networks(store: Store, filters: Sequence[str]) -> Sequence[Network]:
    """Remove the networks that no container is on or refers to; return them.

    Raises:
        UsageError: a filter is none.
    """
    matches = [prune_matcher(text) for text in filters]
    networks = Networks(store.root)
    names = {one.network for known in Containers(store).list() for one in known.config.networks}
    ids = names.difference(one.name for one in networks.all())

    def is_needed(network: Network) -> bool:
        is_named = network.name in names or any(map(network.id.startswith, ids))
        return is_named or not is_chosen(network, matches)

    return networks.prune(is_needed)
