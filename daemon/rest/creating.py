"""A container as Docker's clients describe it, read as a config of ours [CTR-1…10]."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pybuild.containers import defaults
from pybuild.containers.config import ContainerConfig
from pybuild.containers.environment import environment_with, labels_with, texts_of
from pybuild.containers.mounts import GivenMounts
from pybuild.containers.names import new_id
from pybuild.containers.namespaces import check_namespaces, hostname_for
from pybuild.containers.order import ContainerNamespaces, RestartPolicy
from pybuild.containers.signals import signal_number
from pybuild.containers.steps import find_init
from pybuild.daemon.rest.fields import Fields
from pybuild.daemon.rest.mounts import mount_of
from pybuild.daemon.rest.privileges import privileges_of
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.daemon.rest.shownfields import shown_fields
from pybuild.executor import network
from pybuild.executor.steps.spec import StepLimits
from pybuild.executor.zygote import ulimits
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UsageError
from pybuild.model.jsontext import as_object
from pybuild.model.ops import HOST_GATEWAY
from pybuild.networks.defaultmode import default_mode, note
from pybuild.networks.order import EndpointOrder, PortOrder
from pybuild.networks.pools import packed_address
from pybuild.networks.reading import (
    has_hosts_servers,
    read_address,
    read_link,
    read_mac,
    read_servers,
    resolv_conf_with,
    words_of,
)
from pybuild.volumes.mountpoint import MountPoint
from pybuild.volumes.reading import read_bind, read_tmpfs

T = TypeVar("T")
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?\Z", re.IGNORECASE)
_MOST_PORTS = 3 << 16
_NAMESPACES = ("IpcMode", "PidMode", "UTSMode", "CgroupnsMode", "UsernsMode")
_CONFINING = (
    *("DeviceCgroupRules", "StorageOpt", "BlkioDeviceReadBps", "BlkioDeviceWriteBps"),
    *("BlkioDeviceReadIOps", "BlkioDeviceWriteIOps", "BlkioWeight", "BlkioWeightDevice"),
    *("CpuRealtimePeriod", "CpuRealtimeRuntime"),
)
_MASKED = frozenset(
    (
        *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys"),
        *("/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list"),
        *("/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware"),
    )
)
_READONLY = frozenset(("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"))
"""Docker's own lists, which clients copy from other containers."""
_OOM_KILL_KEPT = "OomKillDisable discarded: killing for memory cannot be turned off."
_RUNTIMES = ("", "pybuild", "runc", "io.containerd.runc.v2")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRequest:
    """A container as somebody wants it.

    Attributes:
        config: all but what is known when its image is there.
        warnings: what it has to do without.
    """

    config: ContainerConfig
    mounts: GivenMounts
    warnings: tuple[str, ...]


def request_of(
    body: Fields,
    name: str,
    image: Mapping[str, Any],
    resolv_conf: Mapping[bool, str],
    own_ipc: str = "private",
) -> ContainerRequest:
    """Return the container that *body* describes.

    Args:
        image: the config of its image.
        resolv_conf: the text of that file, without this machine's network and with it.
        own_ipc: the mode of IPC where none is given.

    Raises:
        ApiRefusal, UserError: there can be no such container.
    """
    host = body.part("HostConfig")
    _refuse_unknown(host)
    id = new_id()
    namespaces = _namespaces(host, own_ipc)
    entrypoint, cmd = defaults.command_of(body.texts("Entrypoint"), body.texts("Cmd") or (), image)
    mode, obstacle = mode_of(host.text("NetworkMode"))
    warnings: tuple[str, ...] = (_OOM_KILL_KEPT,) if host.flag("OomKillDisable") else ()
    if body.flag("NetworkDisabled"):
        mode, obstacle = "none", ""
    if obstacle:
        warnings += (note(obstacle),)
    _refuse_own(body, host, mode)
    exposed = sorted({*as_object(image.get("ExposedPorts")), *_bounded(_exposed(body))})
    log = host.part("LogConfig")
    if signal := body.text("StopSignal"):
        signal_number(signal)
    config = ContainerConfig(
        id=id,
        name=name.removeprefix("/"),
        image=body.text("Image"),
        manifest="",
        deltas=(),
        created=time.time_ns(),
        entrypoint=entrypoint,
        cmd=cmd,
        env=_environment(body, image),
        cwd=defaults.workdir_with(body.text("WorkingDir"), image),
        user=body.text("User") or str(image.get("User") or ""),
        hostname=hostname_for(namespaces, body.text("Hostname"), id[:12]),
        labels=labels_with(body.pairs("Labels"), image),
        exposed=tuple(exposed),
        tty=body.flag("Tty"),
        stdin=body.flag("OpenStdin"),
        stdin_once=body.flag("StdinOnce"),
        stop_signal=signal or str(image.get("StopSignal") or ""),
        stop_seconds=float(body.number("StopTimeout")) if body.has("StopTimeout") else None,
        health=defaults.health_check(health_of(body.part("Healthcheck")), image),
        shell=texts_of(image, "Shell"),
        attached=body.flag("AttachStdout"),
        resolv_conf=resolv_conf_with(
            resolv_conf[has_hosts_servers(mode)],
            *(host.texts(name) or () for name in ("Dns", "DnsSearch", "DnsOptions")),
        ),
        readonly=host.flag("ReadonlyRootfs"),
        restart=_restart_policy(host),
        auto_remove=host.flag("AutoRemove"),
        log=defaults.log_config(log.text("Type"), log.pairs("Config")),
        init=host.flag("Init"),
        limits=limits_of(host),
        privileges=privileges_of(host, mode, own_ipc=namespaces.has_own_ipc),
        namespaces=namespaces,
        domainname=body.text("Domainname"),
        has_cpus=bool(host.number("NanoCpus")),
        ulimits=tuple(ulimits_of(host)),
        shm_bytes=_shm(host),
        add_hosts=tuple(_hosts(host.texts("ExtraHosts") or ())),
        shown=shown_fields(host, _places(body, mode)),
        **_networking(body, host, mode, exposed),
    )
    return ContainerRequest(config=config, mounts=_given_mounts(body, host), warnings=warnings)


def _given_mounts(body: Fields, host: Fields) -> GivenMounts:
    own = (
        *map(read_bind, host.texts("Binds") or ()),
        *map(mount_of, host.parts("Mounts")),
        *_tmpfs(host),
        *_volumes(body),
    )
    return GivenMounts(_without_doubles(own), host.texts("VolumesFrom") or ())


def _namespaces(host: Fields, own_ipc: str) -> ContainerNamespaces:
    try:
        known = check_namespaces(ContainerNamespaces(*map(host.text, _NAMESPACES)))
    except UsageError as error:
        raise ApiRefusal(400, error.message) from error
    return known._replace(ipc=own_ipc) if not known.ipc and own_ipc != "private" else known


def _restart_policy(host: Fields) -> RestartPolicy:
    restart = host.part("RestartPolicy")
    most = restart.number("MaximumRetryCount")
    policy = defaults.restart_policy(restart.text("Name"), most or None)
    if host.flag("AutoRemove") and policy.name != "no":
        raise ApiRefusal(400, "can't create 'AutoRemove' container with restart policy")
    return policy


def _refuse_own(body: Fields, host: Fields, mode: str) -> None:
    """Refuse what a container on another one's network cannot have of its own [CTR-7]."""
    if host.is_given("Links") and (mode == "host" or mode.startswith("container:")):
        kind = "host type networking" if mode == "host" else "container type network"
        raise ApiRefusal(
            400,
            f"conflicting options: {kind} can't be used with links. This would result in undefined "
            "behavior",
        )
    if not mode.startswith("container:"):
        return
    for given, words in (
        (body.text("Hostname"), "hostname and the network mode"),
        (host.texts("Dns"), "dns and the network mode"),
        (host.texts("ExtraHosts"), "custom host-to-IP mapping and the network mode"),
        (body.text("MacAddress"), "mac-address and the network mode"),
        (
            host.members("PortBindings") or host.flag("PublishAllPorts"),
            "port publishing and the container type network mode",
        ),
        (
            body.members("ExposedPorts"),
            "port exposing and the container type network mode",
        ),
    ):
        if given:
            raise ApiRefusal(400, f"conflicting options: {words}")


def _refuse_unknown(host: Fields) -> None:
    """Refuse what would be believed to hold and does not."""
    if (isolation := host.text("Isolation")) not in ("", "default"):
        raise ApiRefusal(
            400, f"invalid isolation: \"{isolation[:100]}\" - linux only supports 'default'"
        )
    shares = host.number("CpuShares")
    if shares < 0:
        raise ApiRefusal(400, f"invalid CPU shares ({shares}): value must be a positive integer")
    if host.flag("Init") and find_init() is None:
        raise ApiRefusal(400, "an init program is needed: install the package tini")
    for name in _CONFINING:
        if host.is_given(name):
            raise ApiRefusal(400, f"{name} is not done by pybuild yet")
    if host.text("Runtime") not in _RUNTIMES:
        raise ApiRefusal(400, f"unknown or invalid runtime name: {host.text('Runtime')[:100]}")
    if host.text("Cgroup"):
        raise ApiRefusal(400, f"Cgroup {host.text('Cgroup')} is not done by pybuild yet")
    if "" in host.pairs("Annotations"):
        raise ApiRefusal(
            400,
            "invalid Annotations: the empty string is not permitted as an annotation key",
        )
    _refuse_more_hidden(host)


def _refuse_more_hidden(host: Fields) -> None:
    """Refuse to hide, or keep from writing, other paths than those that every container has so."""
    for name, usual in (("MaskedPaths", _MASKED), ("ReadonlyPaths", _READONLY)):
        if more := sorted(set(host.texts(name) or ()) - usual):
            raise ApiRefusal(400, f"{name} {more[0][:100]} is not done by pybuild yet")


def mode_of(text: str) -> tuple[str, str]:
    """Return the network mode of a container, and why it is this machine's though nobody said so, "": it is not."""
    return default_mode() if text in ("", "default") else (text, "")


def _environment(body: Fields, image: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the variables that were given, also those that are to be none, and then the image's [CTR-1]."""
    items = {one.partition("=")[0]: one for one in body.texts("Env") or ()}
    if "" in items:
        raise ApiRefusal(400, f"invalid environment variable: {items[''][:100]}")
    return (*items.values(), *environment_with({}, items.keys(), image))


def _exposed(body: Fields) -> Iterable[str]:
    for text in body.members("ExposedPorts"):
        first, last, protocol = _port_range(text)
        for number in range(first, last + 1):
            yield f"{number}/{protocol}"


def _bounded(ports: Iterable[T]) -> Iterable[T]:
    """Yield ports, but no more than there are: ranges are short to write, and as long as anybody likes."""
    for count, one in enumerate(ports):
        if count >= _MOST_PORTS:
            raise ApiRefusal(400, "more ports were named than there are")
        yield one


def _port_range(text: str) -> tuple[int, int, str]:
    match = _PORT.match(text)
    first = int(match[1]) if match else 0
    last = int(match[2] or first) if match else 0
    if match is None or not 0 < first <= last < 65536:
        raise ApiRefusal(400, f'invalid port specification: "{text[:100]}"')
    return first, last, (match[3] or "tcp").lower()


def health_of(given: Fields) -> dict[str, Any]:
    """Return docker's Healthcheck, with a zero for each field that is not given."""
    known: dict[str, Any] = {"Test": list(given.texts("Test") or ())}
    for name in ("Interval", "Timeout", "StartPeriod", "StartInterval", "Retries"):
        known[name] = given.number(name)
    return known


_LIST = re.compile(r"\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*")
"""As the kernel writes processors and nodes of memory: ``0-2,4``."""


def limits_of(host: Fields, *, is_update: bool = False) -> StepLimits:
    """Return the limits of a cgroup [CTR-7].

    Args:
        is_update: of a container that has others, which these complete.

    Raises:
        UsageError, ApiRefusal: they contradict each other, are too small, or cannot be had here.
    """
    if host.number("MemorySwap") > 0 and not host.number("Memory") and not is_update:
        raise ApiRefusal(
            400, "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    for name, words in (("CpusetCpus", "cpuset cpus"), ("CpusetMems", "cpuset mems")):
        if (text := host.text(name)) and not _LIST.fullmatch(text):
            raise ApiRefusal(400, f"Invalid value {text[:100]} for {words}: invalid format")
    pids = host.number("PidsLimit")
    limits = StepLimits(
        memory_bytes=host.number("Memory"),
        memory_swap_bytes=host.number("MemorySwap"),
        cpu_shares=host.number("CpuShares"),
        cpu_period_us=host.number("CpuPeriod"),
        cpu_quota_us=host.number("CpuQuota"),
        cpuset_cpus=host.text("CpusetCpus"),
        cpuset_mems=host.text("CpusetMems"),
        pids=max(0, pids) or (-1 if is_update and host.has("PidsLimit") else 0),
        parent=host.text("CgroupParent"),
        reserved_bytes=host.number("MemoryReservation"),
        swappiness=defaults.swappiness(
            str(host.number("MemorySwappiness")) if host.has("MemorySwappiness") else ""
        ),
    )
    defaults.check_limits(limits)
    if 0 < limits.memory_swap_bytes < limits.memory_bytes:
        raise ApiRefusal(
            400, "Minimum memoryswap limit should be larger than memory limit, see usage"
        )
    nano = host.number("NanoCpus")
    return defaults.with_cpus(limits, nano / 1e9) if nano else limits


def ulimits_of(host: Fields) -> Iterable[tuple[str, int, int]]:
    """Yield the limits of each process.

    Raises:
        ApiRefusal: there is no such limit.
    """
    for one in host.parts("Ulimits"):
        limit = (one.text("Name"), one.number("Soft"), one.number("Hard"))
        if wrong := ulimits.problem(*limit):
            raise ApiRefusal(400, wrong)
        yield limit


def _shm(host: Fields) -> int:
    size = host.number("ShmSize")
    if size < 0:
        raise ApiRefusal(400, "SHM size can not be less than 0")
    return size


def _hosts(texts: Iterable[str]) -> Iterable[tuple[str, str]]:
    for text in texts:
        name, colon, address = text.partition(":")
        if not colon or not name:
            raise ApiRefusal(400, f'bad format for add-host: "{text[:100]}"')
        address = address.removeprefix("[").removesuffix("]")
        if address != HOST_GATEWAY and not _is_address(address):
            raise ApiRefusal(400, f'invalid IP address in add-host: "{address[:100]}"')
        yield name, address


def _is_address(text: str) -> bool:
    try:
        return bool(packed_address(text))
    except ValueError:
        return False


def _networking(body: Fields, host: Fields, mode: str, exposed: Iterable[str]) -> dict[str, Any]:
    """Return the fields of a config about networks [CTR-95, NET-30]."""
    text = network.host_resolv_conf()
    fields: dict[str, Any] = {
        "network": mode,
        "dns": read_servers(host.texts("Dns") or (), text),
        "dns_search": host.texts("DnsSearch") or words_of(text, ("search", "domain")),
        "dns_options": host.texts("DnsOptions") or (),
    }
    ports = tuple(_bounded(_ports(host, exposed)))  # wrong ones are refused whatever the network is
    if mode in ("host", "none") or mode.startswith("container:"):
        return fields
    endpoints = _places(body, mode)
    names = [mode, *(name for name in endpoints if name != mode)]
    fields["networks"] = tuple(
        endpoint_of(name, endpoints.get(name, Fields({})), body.text("MacAddress"))
        for name in names
    )
    fields["networks"] = _with_links(fields["networks"], links_of(host))
    fields["ports"] = ports
    return fields


def _with_links(
    places: tuple[EndpointOrder, ...], links: tuple[tuple[str, str], ...]
) -> tuple[EndpointOrder, ...]:
    """Return places on networks with the container's links on the first, which clients may name twice."""
    first, *others = places
    return (first._replace(links=tuple(dict.fromkeys((*links, *first.links)))), *others)


def _places(body: Fields, mode: str) -> dict[str, Fields]:
    """Return the settings of networks, by their names."""
    endpoints = body.part("NetworkingConfig").maps("EndpointsConfig")
    if "default" in endpoints:
        endpoints[mode] = endpoints.pop("default")
    return endpoints


def endpoint_of(name: str, given: Fields, mac: str = "") -> EndpointOrder:
    """Return a place on a network as it is endpoints."""
    own = given.part("IPAMConfig")
    addresses = [
        read_address(text, option)
        for option, text in (("ip", own.text("IPv4Address")), ("ip6", own.text("IPv6Address")))
        if text
    ]
    mac = given.text("MacAddress") or mac
    return EndpointOrder(
        name,
        given.texts("Aliases") or (),
        tuple(addresses),
        read_mac(mac) if mac else "",
        given.number("GwPriority"),
        links_of(given),
    )


def links_of(given: Fields) -> tuple[tuple[str, str], ...]:
    """Return the links of a container, or of its place on a network.

    Raises:
        ApiRefusal: one of them is none.
    """
    try:
        return tuple(map(read_link, given.texts("Links") or ()))
    except UsageError as error:
        raise ApiRefusal(400, error.message) from error


def _ports(host: Fields, exposed: Iterable[str]) -> Iterable[PortOrder]:
    bindings = host.members("PortBindings")
    published: set[str] = set()
    for key, given in bindings.items():
        if not _PORT.match(key):
            raise ApiRefusal(400, f"invalid JSON: invalid port '{key[:100]}': invalid syntax")
        first, last, protocol = _port_range(key)
        places = Fields({"Bindings": given}).parts("Bindings") or [Fields({})]
        for number in range(first, last + 1):
            published.add(f"{number}/{protocol}")
            for place in places:
                low, high = _host_ports(place.text("HostPort"))
                address = place.text("HostIp")
                if address and not _is_address(address):
                    raise ApiRefusal(400, f'invalid IP address: "{address[:100]}"')
                yield PortOrder(protocol, number, address, low, high)
    if host.flag("PublishAllPorts"):
        for key in exposed:
            if key not in published:
                port, _, protocol = key.partition("/")
                yield PortOrder(protocol, int(port))


def _host_ports(text: str) -> tuple[int, int]:
    if text in ("", "0"):
        return 0, 0
    first, last, _ = _port_range(text)
    return first, last


def _tmpfs(host: Fields) -> Iterable[MountPoint]:
    for path, options in host.pairs("Tmpfs").items():
        yield read_tmpfs(f"{path}:{options}" if options else path)


def _volumes(body: Fields) -> Iterable[MountPoint]:
    """Return the mounts of Config.Volumes, whose keys are paths, or binds of old clients."""
    for text in body.members("Volumes"):
        yield read_bind(text)


def _without_doubles(mounts: Iterable[MountPoint]) -> list[MountPoint]:
    """Leave out of Config.Volumes what Binds and Mounts have already."""
    known: dict[str, MountPoint] = {}
    doubles: list[MountPoint] = []
    for mount in mounts:
        if mount.target not in known:
            known[mount.target] = mount
        elif mount.source or mount.text != mount.target:
            doubles.append(mount)
    return [*known.values(), *doubles]
