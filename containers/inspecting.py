"""A container as ``docker inspect`` describes it [CTR-70…73]. Pure, but for the paths that it names."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pybuild.cache.store import Store
from pybuild.containers.addresses import network_settings, port_bindings
from pybuild.containers.config import ContainerConfig
from pybuild.containers.container import Container
from pybuild.containers.containers import Containers
from pybuild.containers.linking import shown_links
from pybuild.containers.log import moment
from pybuild.containers.order import LOG, TREE, WORK, HealthCheck
from pybuild.containers.state import ContainerState
from pybuild.executor.steps.spec import StepLimits
from pybuild.executor.zygote import procstatus
from pybuild.model.amounts import Duration
from pybuild.model.dataclass import dataclass
from pybuild.model.jsontext import as_object
from pybuild.networks.networks import Networks
from pybuild.volumes.mountpoint import MountKind, MountOrigin, MountPoint
from pybuild.volumes.volumes import Volumes

if TYPE_CHECKING:
    from pybuild.containers.addresses import Places

_NEVER = "0001-01-01T00:00:00Z"
_SHM_BYTES = 64 << 20
_MASKED = ("/proc/acpi", "/proc/keys", "/proc/timer_list", "/sys/firmware")
_READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys")
_BLKIO = ("WeightDevice", "DeviceReadBps", "DeviceWriteBps", "DeviceReadIOps", "DeviceWriteIOps")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerDetails:
    """The facts about a container that its record does not have.

    Attributes:
        path: its directory.
        lowers: the directories of its layers, base first.
        mountpoint: returns the directory of a volume's files.
        sizes: the bytes that it wrote, and those of its whole tree; None where nobody asks.
        places: on networks of its own; none while it does not run.
        health: as its file says; None where nobody looks.
        links: to others on the default bridge, as docker writes them.
    """

    path: str
    lowers: tuple[str, ...]
    mountpoint: Callable[[str], str]
    sizes: tuple[int, int] | None = None
    places: Places = ()
    health: Mapping[str, Any] | None = None
    links: list[str] | None = None


def document(
    config: ContainerConfig, state: ContainerState, where: ContainerDetails
) -> dict[str, Any]:
    """Return the whole description."""
    args = config.args
    facts: dict[str, Any] = {
        "Id": config.id,
        "Created": moment(config.created),
        "Path": args[0] if args else "",
        "Args": list(args[1:]),
        "State": state_facts(state, where.health),
        "Image": config.image_id or config.manifest,
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "LogPath": os.path.join(where.path, LOG) if config.log.driver == "json-file" else "",
        "Name": f"/{config.name}",
        "RestartCount": state.restarts,
        "Driver": "overlayfs",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": None,
        "HostConfig": {
            **_host_config(config, where.links),
            **as_object(config.shown.get("HostConfig")),
        },
        "GraphDriver": {
            "Data": {
                "LowerDir": ":".join(reversed(where.lowers)),
                "UpperDir": os.path.join(where.path, TREE),
                "WorkDir": os.path.join(where.path, WORK),
            },
            "Name": "overlayfs",
        },
    }
    if where.sizes is not None:
        facts |= {"SizeRw": where.sizes[0], "SizeRootFs": where.sizes[1]}
    facts["Mounts"] = [
        mount.shown(where.mountpoint(mount.source) if mount.kind == MountKind.VOLUME else "")
        for mount in config.mounts
        if mount.origin != MountOrigin.TMPFS
    ]
    facts["Config"] = config_facts(config)
    facts["NetworkSettings"] = network_settings(config, where.places)
    return facts


def state_facts(state: ContainerState, health: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return docker's State [CTR-30], with the health where somebody looks [CTR-37]."""
    facts: dict[str, Any] = {
        "Status": state.status,
        "Running": state.lives,
        "Paused": state.status == "paused",
        "Restarting": state.status == "restarting",
        "OOMKilled": state.oom_killed,
        "Dead": False,
        "Pid": procstatus.inner(state.pid) if state.pid else 0,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": moment(state.started) if state.started else _NEVER,
        "FinishedAt": moment(state.finished) if state.finished else _NEVER,
    }
    if health is not None:
        facts["Health"] = dict(health)
    return facts


def config_facts(config: ContainerConfig) -> dict[str, Any]:
    """Return docker's Config, with its nulls [CTR-71]."""
    facts: dict[str, Any] = {
        "Hostname": config.hostname,
        "Domainname": config.domainname,
        "User": config.user,
        "AttachStdin": config.stdin_once,
        "AttachStdout": config.attached,
        "AttachStderr": config.attached,
    }
    if config.exposed:
        facts["ExposedPorts"] = {port: {} for port in config.exposed}
    facts |= {
        "Tty": config.tty,
        "OpenStdin": config.stdin,
        "StdinOnce": config.stdin_once,
        "Env": list(config.env),
        "Cmd": _list(config.cmd),
    }
    if config.health is not None:
        facts["Healthcheck"] = _health(config.health)
    volumes: dict[str, dict[str, Any]] = {
        mount.target: {}
        for mount in config.mounts
        if mount.origin == MountOrigin.IMAGE
        or (mount.origin == MountOrigin.BIND and mount.text == mount.target)
    }
    facts |= {
        "Image": config.image,
        "Volumes": volumes or None,
        "WorkingDir": config.cwd,
        "Entrypoint": _list(config.entrypoint),
        "OnBuild": None,
        "Labels": dict(config.labels),
    }
    if config.stop_signal:
        facts["StopSignal"] = config.stop_signal
    if config.stop_seconds is not None:
        facts["StopTimeout"] = int(config.stop_seconds)
    return facts


def _list(words: tuple[str, ...] | None) -> list[str] | None:
    return None if words is None else list(words)


def _health(check: HealthCheck) -> dict[str, Any]:
    durations = {
        "Interval": check.interval,
        "Timeout": check.timeout,
        "StartPeriod": check.start_period,
        "StartInterval": check.start_interval,
    }
    return {
        "Test": list(check.test),
        **{name: Duration(value) for name, value in durations.items() if value},
        **({"Retries": check.retries} if check.retries else {}),
    }


def _host_config(config: ContainerConfig, links: list[str] | None) -> dict[str, Any]:
    """Return docker's HostConfig: what was given, and the defaults [CTR-4]."""
    mounts, given = config.mounts, config.privileges
    return {
        "Binds": _given(mounts, MountOrigin.BIND, lambda one: one.text != one.target) or None,
        "ContainerIDFile": "",
        "LogConfig": {"Type": config.log.driver, "Config": dict(config.log.options)},
        "NetworkMode": config.network,
        "PortBindings": port_bindings(config),
        "RestartPolicy": {"Name": config.restart.name, "MaximumRetryCount": config.restart.most},
        "AutoRemove": config.auto_remove,
        "VolumeDriver": "",
        "VolumesFrom": sorted(set(_given(mounts, MountOrigin.VOLUMES_FROM))) or None,
        "CapAdd": list(given.cap_add) or None,
        "CapDrop": list(given.cap_drop) or None,
        "CgroupnsMode": config.namespaces.cgroup or "private",
        "Dns": list(config.dns) if "dns" in config.given else [],
        "DnsOptions": list(config.dns_options),
        "DnsSearch": list(config.dns_search) if "dns-search" in config.given else [],
        "ExtraHosts": [f"{name}:{address}" for name, address in config.add_hosts] or None,
        "GroupAdd": list(given.groups) or None,
        "IpcMode": config.namespaces.ipc or "private",
        "Cgroup": "",
        "Links": links,
        "OomScoreAdj": given.oom_score_adj,
        "PidMode": config.namespaces.pid,
        "Privileged": given.privileged,
        "PublishAllPorts": False,
        "ReadonlyRootfs": config.readonly,
        "SecurityOpt": list(given.security_opts) or None,
        **_tmpfs(mounts),
        "UTSMode": config.namespaces.uts,
        "UsernsMode": config.namespaces.user,
        "ShmSize": config.shm_bytes or _SHM_BYTES,
        "Runtime": "pybuild",
        "ConsoleSize": [0, 0],
        "Isolation": "",
        **_resources(config),
        **_mounts(mounts),
        **({"Init": True} if config.init else {}),
        **({"Sysctls": dict(given.sysctls)} if given.sysctls else {}),
        "MaskedPaths": None if given.privileged else list(_MASKED),
        "ReadonlyPaths": None if given.privileged else list(_READONLY),
    }


def _resources(config: ContainerConfig) -> dict[str, Any]:
    """Return the part of docker's HostConfig that an update may change, and what is counted with it."""
    limits, given = config.limits, config.privileges
    return {
        "CpuShares": limits.cpu_shares,
        "Memory": limits.memory_bytes,
        "NanoCpus": _nano_cpus(limits) if config.has_cpus else 0,
        "CgroupParent": limits.parent,
        "BlkioWeight": 0,
        **{f"Blkio{what}": [] for what in _BLKIO},
        "CpuPeriod": 0 if config.has_cpus else limits.cpu_period_us,
        "CpuQuota": 0 if config.has_cpus else limits.cpu_quota_us,
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": limits.cpuset_cpus,
        "CpusetMems": limits.cpuset_mems,
        "Devices": [
            {"PathOnHost": here, "PathInContainer": there, "CgroupPermissions": rights}
            for here, there, rights in given.devices
        ],
        "DeviceCgroupRules": None,
        "DeviceRequests": [
            {"Driver": "cdi", "Count": 0, "DeviceIDs": [name], "Capabilities": [], "Options": {}}
            for name in given.cdi
        ]
        or None,
        "MemoryReservation": limits.reserved_bytes,
        "MemorySwap": limits.memory_swap_bytes or 2 * limits.memory_bytes,
        "MemorySwappiness": int(limits.swappiness) if limits.swappiness else None,
        "OomKillDisable": None,
        "PidsLimit": limits.pids or None,
        "Ulimits": [
            {"Name": name, "Soft": soft, "Hard": hard} for name, soft, hard in config.ulimits
        ],
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    }


def _nano_cpus(limits: StepLimits) -> int:
    return limits.cpu_quota_us * 1_000_000_000 // (limits.cpu_period_us or 1)


def _given(
    mounts: tuple[MountPoint, ...],
    origin: str,
    test: Callable[[MountPoint], bool] = lambda one: True,
) -> list[str]:
    return [one.text for one in mounts if one.origin == origin and test(one)]


def _tmpfs(mounts: tuple[MountPoint, ...]) -> dict[str, Any]:
    tmpfs = {one.target: one.text for one in mounts if one.origin == MountOrigin.TMPFS}
    return {"Tmpfs": tmpfs} if tmpfs else {}


def _mounts(mounts: tuple[MountPoint, ...]) -> dict[str, Any]:
    given: list[dict[str, Any]] = []
    for one in mounts:
        if one.origin == MountOrigin.MOUNT:
            facts: dict[str, Any] = {"Type": str(one.kind)}
            facts |= {"Source": one.source} if one.source else {}
            facts |= {"Target": one.target}
            facts |= {"ReadOnly": True} if one.readonly else {}
            tmpfs = {"SizeBytes": one.size_bytes, "Mode": one.permissions}
            if tmpfs := {key: value for key, value in tmpfs.items() if value}:
                facts |= {"TmpfsOptions": tmpfs}
            given.append(facts)
    return {"Mounts": given} if given else {}


def container_document(store: Store, one: Container, *, sized: bool = False) -> dict[str, Any]:
    """Return docker's description of a container."""
    known, containers = Volumes(store), Containers(store)
    where = ContainerDetails(
        path=one.path,
        health=one.health(),
        places=Networks(store.root).records.places(one.config.id) if one.config.networks else (),
        lowers=tuple(store.deltas.path(name) for name in one.config.deltas),
        mountpoint=known.mountpoint,
        sizes=containers.sizes(one) if sized else None,
        links=shown_links(containers.find, one.config),
    )
    return document(one.config, one.state(), where)
