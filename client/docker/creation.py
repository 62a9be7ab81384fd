"""Options of ``run`` and ``create`` as the body of a request of Docker's API [EP-21]."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from pybuild.containers.namedlines import lines_of
from pybuild.frontend.syntax.healthchecks import interval_ns
from pybuild.model.errors import UsageError
from pybuild.model.resources import Resources
from pybuild.model.stepoptions import settings_of_flags
from pybuild.networks.reading import read_endpoint, read_published
from pybuild.volumes.mountpoint import MountKind, MountPoint
from pybuild.volumes.reading import read_mount

if TYPE_CHECKING:
    from pybuild.networks.order import EndpointOrder


class CreationOptions(Protocol):
    """The command line, as `pybuild.commandline.parser.Parsed` has it."""

    values: dict[str, list[str]]
    positionals: list[str]

    def flag(self, name: str, default: bool = False) -> bool: ...
    def one(self, name: str, default: str = "") -> str: ...
    def many(self, name: str) -> list[str]: ...


_HERE_ALONE = ("stage", "from-step", "file", "build-arg")
_SETTLED = ("host", "none")


def body_of(
    options: CreationOptions, image: str, command: Sequence[str], *, attached: bool
) -> dict[str, Any]:
    """Return the description of a container, which the engine completes by its image.

    Raises:
        UsageError: an option is wrong, or is for containers of this machine.
    """
    for name in _HERE_ALONE:
        if options.many(name):
            raise UsageError(f"--{name} is for containers of this machine", hints=["leave out -H"])
    stdin = options.flag("interactive")
    entrypoint = options.values.get("entrypoint")
    networks = [read_endpoint(text) for text in options.many("network")]
    body: dict[str, Any] = {
        "Image": image,
        "Cmd": list(command) or None,
        "Entrypoint": None if entrypoint is None else [entrypoint[-1]],
        "Hostname": options.one("hostname"),
        "User": options.one("user"),
        "WorkingDir": options.one("workdir"),
        "Env": environment(options),
        "Labels": _labels(options),
        "Tty": options.flag("tty"),
        "OpenStdin": stdin,
        "StdinOnce": stdin and attached,
        "AttachStdin": stdin and attached,
        "AttachStdout": attached,
        "AttachStderr": attached,
        "ExposedPorts": {key: {} for key in _exposed(options)},
        "StopSignal": options.one("stop-signal"),
        "Healthcheck": _health(options),
        "HostConfig": _host_config(options, networks[0].network if networks else "default"),
        "NetworkingConfig": {"EndpointsConfig": _endpoints(options, networks)},
    }
    if text := options.one("stop-timeout"):
        body["StopTimeout"] = _number("stop-timeout", text)
    return {
        key: value
        for key, value in body.items()
        if value not in ("", None, {}, [], {"EndpointsConfig": {}})
    }


def environment(options: CreationOptions) -> list[str]:
    """Return ``NAME=value`` words; a name alone takes our own value, and without one removes the image's."""
    lines = [line for path in options.many("env-file") for line in lines_of(path)]
    words: list[str] = []
    for item in (*lines, *options.many("env")):
        name, equals, _ = item.partition("=")
        if not name:
            raise UsageError(f'invalid env "{item}": expected NAME=value')
        own = None if equals else os.environ.get(name)
        words.append(item if own is None else f"{name}={own}")
    return words


def _labels(options: CreationOptions) -> dict[str, str]:
    lines = [line for path in options.many("label-file") for line in lines_of(path)]
    pairs = (text.partition("=") for text in (*lines, *options.many("label")))
    return {name: value for name, _, value in pairs}


def _exposed(options: CreationOptions) -> Sequence[str]:
    texts = [
        *options.many("expose"),
        *(text.rpartition(":")[2] for text in options.many("publish")),
    ]
    keys: list[str] = []
    for text in texts:
        numbers, _, protocol = text.partition("/")
        first, _, last = numbers.partition("-")
        low, high = _number("expose", first), _number("expose", last or first)
        keys += [f"{number}/{protocol or 'tcp'}" for number in range(low, min(high, 65535) + 1)]
    return keys


def _health(options: CreationOptions) -> dict[str, Any] | None:
    if options.flag("no-healthcheck"):
        return {"Test": ["NONE"]}
    given: dict[str, Any] = {}
    if command := options.one("health-cmd"):
        given["Test"] = ["CMD-SHELL", command]
    for name in ("interval", "timeout", "start-period", "start-interval"):
        if text := options.one(f"health-{name}"):
            given["".join(word.capitalize() for word in name.split("-"))] = interval_ns(name, text)
    if text := options.one("health-retries"):
        given["Retries"] = _number("health-retries", text)
    return given or None


def _host_config(options: CreationOptions, network: str) -> dict[str, Any]:
    settings = settings_of_flags(lambda name: () if name == "network" else options.many(name))
    policy, _, retries = options.one("restart").partition(":")
    mounts = [read_mount(text) for text in options.many("mount")]
    config: dict[str, Any] = {
        **limits_of(options, settings.resources),
        "Binds": [_bind(text) for text in options.many("volume")],
        "Mounts": [_mount(one) for one in mounts],
        "Tmpfs": dict(_tmpfs(text) for text in options.many("tmpfs")),
        "VolumesFrom": options.many("volumes-from"),
        "NetworkMode": network,
        "PortBindings": _bindings(options),
        "PublishAllPorts": options.flag("publish-all"),
        "RestartPolicy": {"Name": policy, "MaximumRetryCount": _number("restart", retries or "0")},
        "AutoRemove": options.flag("rm"),
        "CapAdd": options.many("cap-add"),
        "CapDrop": options.many("cap-drop"),
        "Privileged": options.flag("privileged"),
        "SecurityOpt": [_security(text) for text in options.many("security-opt")],
        "ReadonlyRootfs": options.flag("read-only"),
        "GroupAdd": options.many("group-add"),
        "Init": True if options.flag("init") else None,
        "OomScoreAdj": _number("oom-score-adj", options.one("oom-score-adj") or "0"),
        "Sysctls": _pairs(options.many("sysctl")),
        "Devices": [_device(text) for text in options.many("device")],
        "Links": options.many("link"),
        "Dns": options.many("dns"),
        "DnsSearch": options.many("dns-search"),
        "DnsOptions": options.many("dns-option"),
        "ExtraHosts": options.many("add-host"),
        "ShmSize": settings.shm_size_bytes,
        "Ulimits": [
            {"Name": name, "Soft": soft, "Hard": hard} for name, soft, hard in settings.ulimits
        ],
    }
    if driver := options.one("log-driver") or ("json-file" if options.many("log-opt") else ""):
        config["LogConfig"] = {"Type": driver, "Config": _pairs(options.many("log-opt"))}
    if gpus := options.many("gpus"):
        config["DeviceRequests"] = [_gpus(text) for text in gpus]
    return {
        key: value for key, value in config.items() if value not in ("", None, 0, False, [], {})
    }


def limits_of(options: CreationOptions, resources: Resources | None = None) -> dict[str, Any]:
    """Return the limits of a container's resources, and nothing for those that were not given."""
    if resources is None:
        resources = settings_of_flags(
            lambda name: () if name == "network" else options.many(name)
        ).resources
    limits = {
        "Memory": resources.memory_bytes,
        "MemorySwap": resources.memory_swap_bytes,
        "CpuShares": resources.cpu_shares,
        "CpuPeriod": resources.cpu_period_us,
        "CpuQuota": resources.cpu_quota_us,
        "CpusetCpus": resources.cpuset_cpus,
        "CpusetMems": resources.cpuset_mems,
        "CgroupParent": resources.parent,
        "PidsLimit": _number("pids-limit", options.one("pids-limit") or "0"),
        "NanoCpus": int(_decimal("cpus", options.one("cpus") or "0") * 1e9),
    }
    return {key: value for key, value in limits.items() if value}


def _endpoints(options: CreationOptions, networks: Sequence[EndpointOrder]) -> dict[str, Any]:
    if networks and (networks[0].network in _SETTLED or ":" in networks[0].network):
        return {}
    places: dict[str, Any] = {}
    for place, one in enumerate(networks):
        addresses = [*one.addresses, *(options.one(name) for name in ("ip", "ip6") if not place)]
        places[one.network] = endpoint(
            [*one.aliases, *([] if place else options.many("network-alias"))],
            addresses,
            one.mac or ("" if place else options.one("mac-address")),
        )
    return places


def endpoint(aliases: Sequence[str], addresses: Sequence[str], mac: str = "") -> dict[str, Any]:
    """Return a container's place on a network."""
    known = {("IPv6Address" if ":" in text else "IPv4Address"): text for text in addresses if text}
    return {"Aliases": list(aliases), "IPAMConfig": known, **({"MacAddress": mac} if mac else {})}


def _bindings(options: CreationOptions) -> dict[str, Any]:
    bindings: dict[str, list[dict[str, str]]] = {}
    for one in read_published(options.many("publish")):
        number = f"{one.first}-{one.last}" if one.last > one.first else str(one.first or "")
        bindings.setdefault(f"{one.port}/{one.protocol}", []).append(
            {"HostIp": one.address, "HostPort": number}
        )
    return bindings


def _bind(text: str) -> str:
    """Return a bind with its directory as it is on the engine's machine: as it was written, absolute."""
    source, colon, rest = text.partition(":")
    if colon and source.startswith(("./", "../", "~/")) or source in (".", ".."):
        source = os.path.abspath(os.path.expanduser(source))
    return f"{source}{colon}{rest}"


def _mount(one: MountPoint) -> dict[str, Any]:
    shown: dict[str, Any] = {"Type": str(one.kind), "Target": one.target}
    if one.source:
        shown["Source"] = one.source
    if one.readonly:
        shown["ReadOnly"] = True
    if one.kind == MountKind.VOLUME and one.nocopy:
        shown["VolumeOptions"] = {"NoCopy": True}
    if one.kind == MountKind.BIND and one.propagation:
        shown["BindOptions"] = {"Propagation": one.propagation}
    return shown


def _tmpfs(text: str) -> tuple[str, str]:
    path, _, mode = text.partition(":")
    return path, mode


def _security(text: str) -> str:
    """Return it with the text of a profile in place of its file's name, as docker's client sends it."""
    name, equals, value = text.partition("=")
    if name == "seccomp" and equals and value not in ("unconfined", "builtin"):
        try:
            with open(value, encoding="utf-8") as file:
                return f"seccomp={file.read()}"
        except (OSError, ValueError) as error:
            raise UsageError(
                f"--security-opt {text}: the profile cannot be read: {error}"
            ) from error
    return text


def _device(text: str) -> dict[str, str]:
    parts = text.split(":")
    if not text.startswith("/") or len(parts) > 3:
        raise UsageError(f'invalid --device "{text}": expected /dev/a[:/dev/b[:rwm]]')
    inside = parts[1] if len(parts) > 1 and parts[1].startswith("/") else parts[0]
    access = parts[-1] if len(parts) > 1 and not parts[-1].startswith("/") else "rwm"
    return {"PathOnHost": parts[0], "PathInContainer": inside, "CgroupPermissions": access}


def _gpus(text: str) -> dict[str, Any]:
    name, equals, value = text.partition("=")
    request: dict[str, Any] = {"Driver": "", "Capabilities": [["gpu"]]}
    if equals and name == "device":
        return {**request, "DeviceIDs": value.split(",")}
    return {**request, "Count": -1 if text == "all" else _number("gpus", text)}


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f'invalid --{name} "{text}": expected a number') from None


def _decimal(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f'invalid --{name} "{text}": expected a number such as 1.5') from None
