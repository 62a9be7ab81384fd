"""The order to the sandbox for a container's first process. Pure."""

from __future__ import annotations

import os

from pybuild.containers.config import ContainerConfig
from pybuild.containers.environment import environment
from pybuild.containers.namespaces import step_sharing
from pybuild.containers.order import TREE, WORK
from pybuild.containers.privileges import device_edits, step_privileges
from pybuild.executor import network
from pybuild.executor.steps.spec import StepMount, StepMountType, StepSpec
from pybuild.model.jsontext import as_list, as_object
from pybuild.networks.hostfiles import HOST_GATEWAY, HOSTS, RESOLV_CONF, standard_hosts
from pybuild.networks.order import EndpointOrder, NetworkOrder, has_own_networks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


_INIT = "/sbin/docker-init"
_INITS = ("docker-init", "tini-static", "catatonit", "tini")


def find_init() -> str | None:
    """Return the init of this machine that a container can have [CTR-18]."""
    import shutil

    return next((path for name in _INITS if (path := shutil.which(name))), None)


def step_of(
    config: ContainerConfig, path: str, lowers: Sequence[str], mounts: Sequence[StepMount]
) -> StepSpec:
    """Return the first process of the container whose directory is *path*; *lowers*: of its layers."""
    args = config.args
    if config.init:
        init = StepMount(StepMountType.BIND_PATH, _INIT, find_init() or "", readonly=True)
        mounts = (*mounts, init)
        args = (_INIT, "--", *args)
    edits = device_edits(config.privileges)
    return StepSpec(
        lowers=tuple(lowers),
        upper=os.path.join(path, TREE),
        work=os.path.join(path, WORK),
        args=args,
        env=(*environment(config.hostname, config.env, tty=config.tty), *edits.env),
        cwd=config.cwd,
        user=config.user,
        hostname=config.hostname,
        network=mode_of(config),
        mounts=(*mounts, *edits.mounts),
        resolv_conf=config.resolv_conf.encode(),
        hosts=hosts_of(config.network, config.full_hostname, config.add_hosts).encode(),
        ulimits=config.ulimits,
        shm_size_bytes=config.shm_bytes,
        readonly=config.readonly,
        limits=config.limits,
        terminal=_console(config) if config.tty else None,
        lasting=True,
        security="insecure" if config.privileges.privileged else "sandbox",
        privileges=step_privileges(config.privileges),
        is_container=True,
        sharing=step_sharing(config.namespaces),
        domainname=config.domainname,
    )


def _console(config: ContainerConfig) -> tuple[int, int]:
    """Return rows and columns of a terminal until somebody is there who has one."""
    size = as_list(as_object(config.shown.get("HostConfig")).get("ConsoleSize"))
    numbers = [one for one in size if isinstance(one, int) and 0 <= one < 1 << 16]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (0, 0)


def hosts_of(mode: str, hostname: str, given: Sequence[tuple[str, str]] = ()) -> str:
    """Return the hosts file of a container without a network of its own; one with gets another later."""
    if mode == "none":
        return "\n".join(standard_hosts(_known(given))) + "\n"
    return network.hosts(hostname, _known(given))


def mode_of(config: ContainerConfig) -> str:
    """Return the network mode of the sandbox: a network namespace is made for networks of its own."""
    if has_own_networks(config.network):
        return "none"
    return "host" if config.network.startswith("container:") else config.network


def _known(add_hosts: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return names with addresses; the host's is one of its loopback where its network is shared."""
    return [
        (name, "127.0.0.1" if address == HOST_GATEWAY else address) for name, address in add_hosts
    ]


def networks_of(config: ContainerConfig, folder: str) -> NetworkOrder | None:
    """Return the order for a container's own networks; *folder* is the store's ``networks``."""
    if not has_own_networks(config.network):
        return None
    mounted = {mount.target for mount in config.mounts}
    return NetworkOrder(
        folder=folder,
        container=config.id,
        name=config.name,
        hostname=config.full_hostname,
        # One that was taken off its last network is back where it was made for, as in docker.
        endpoints=config.networks or (EndpointOrder(config.network),),
        ports=config.ports,
        resolv_conf=config.resolv_conf,
        servers=config.dns,
        search=config.dns_search,
        options=config.dns_options,
        hosts=config.add_hosts,
        files=tuple(path for path in (HOSTS, RESOLV_CONF) if mounted.isdisjoint(("/etc", path))),
        are_given="dns" in config.given,
    )
