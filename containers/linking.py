"""Links to other containers: by their ids on the default bridge, which they must be on; by names elsewhere [NET-15]."""

from __future__ import annotations

from pybuild.containers.config import ContainerConfig
from pybuild.model.errors import UserError
from pybuild.networks.order import BRIDGE, EndpointOrder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pybuild.containers.container import Container

    Find = Callable[[str], Container]

_OWN_NETWORK = ["on a network of your own names follow containers: pybuild network create NAME"]


def with_ids(find: Find, config: ContainerConfig) -> ContainerConfig:
    """Return a container that is to be made, with the ids of those that it is linked to on the default bridge.

    Raises:
        UserError: one of them is not there, or is not on that network.
    """
    if not any(True for _ in _links(config)):
        return config

    def settled(place: EndpointOrder) -> EndpointOrder:
        if place.network != BRIDGE:
            return place
        return place._replace(
            links=tuple((_child(find, name).id, alias) for name, alias in place.links)
        )

    return config._replace(networks=tuple(map(settled, config.networks)))


def _child(find: Find, name: str) -> ContainerConfig:
    try:
        child = find(name).config
    except UserError as error:
        raise UserError(
            f"could not get container for {name}: {error.message}", hints=error.hints
        ) from error
    if not any(place.network == BRIDGE for place in child.networks):
        raise UserError(
            f"Cannot link to /{child.name}, as it does not belong to the default network",
            hints=_OWN_NETWORK,
        )
    return child


def check_links(find: Find, config: ContainerConfig) -> None:
    """Refuse to start a container before those that it is linked to on the default bridge.

    Raises:
        UserError: one of them does not run.
    """
    for child, alias in _links(config):
        container = find(child)
        if not container.state().lives:
            name = container.config.name
            raise UserError(
                f"Cannot link to a non running container: /{name} AS /{config.name}/{alias}",
                hints=[f"pybuild start {name}"],
            )


def shown_links(find: Find, config: ContainerConfig) -> list[str] | None:
    """Return the links of the default bridge as docker's HostConfig has them; None: there are none."""
    shown: list[str] = []
    for child, alias in _links(config):
        try:
            name = find(child).config.name
        except UserError:
            continue  # it was removed
        shown.append(f"/{name}:/{config.name}/{alias}")
    return shown or None


def linked_by(find: Find, text: str) -> Container:
    """Return the container that ``PARENT/ALIAS`` names by a link of the default bridge, which is a name of it as others are.

    Raises:
        UserError: there is no such link.
    """
    name, _, alias = text.removeprefix("/").rpartition("/")
    for child, known in _links(find(name).config):
        if known == alias:
            return find(child)
    raise UserError(f"no such container: {text}", hints=["pybuild ps -a lists what there is"])


def names_by_links(containers: Iterable[Container]) -> Mapping[str, Sequence[str]]:
    """Return the names that containers have by links of others to them, by their ids, as docker lists them."""
    names: dict[str, list[str]] = {}
    for parent in containers:
        for child, alias in _links(parent.config):
            names.setdefault(child, []).append(f"/{parent.config.name}/{alias}")
    return {child: sorted(known) for child, known in names.items()}


def link_of(find: Find, text: str) -> tuple[Container, str]:
    """Return the container that has the link ``PARENT/ALIAS``, and its alias.

    Raises:
        UserError: there is no such container, or link of the default bridge.
    """
    name, _, alias = text.strip("/").rpartition("/")
    if not name:
        raise UserError(
            f"cannot remove the default link name of container {alias}",
            hints=["a link is named PARENT/ALIAS; without --link the container is removed"],
        )
    parent = find(name)
    if all(alias != known for _, known in _links(parent.config)):
        raise UserError(
            f"no such link: /{name}/{alias}",
            hints=[f"pybuild inspect {name} shows the links of the default bridge"],
        )
    return parent, alias


def _links(config: ContainerConfig) -> Iterator[tuple[str, str]]:
    for place in config.networks:
        if place.network == BRIDGE:
            yield from place.links
