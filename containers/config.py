"""A container as it was created: what docker calls Config and HostConfig, as far as there is such a thing here.

It is written to the container's directory once, and never guessed again from its image; `rename` and
`update` alone replace it. A field is added here, with its default, and is then kept by itself.
"""

from __future__ import annotations

from pybuild.containers.order import (
    ContainerNamespaces,
    ContainerPrivileges,
    HealthCheck,
    LogConfig,
    RestartPolicy,
)
from pybuild.executor.steps.spec import StepLimits
from pybuild.model import lightjson
from pybuild.model.border import NamedTuple
from pybuild.networks.order import EndpointOrder, PortOrder
from pybuild.volumes.mountpoint import MountPoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_PARTS: Mapping[str, Any] = {
    "health": HealthCheck,
    "limits": StepLimits,
    "log": LogConfig,
    "namespaces": ContainerNamespaces,
    "privileges": ContainerPrivileges,
    "restart": RestartPolicy,
}
_LISTS: Mapping[str, Any] = {"networks": EndpointOrder, "ports": PortOrder}
_PLAIN = frozenset((str, int, bool, float, type(None)))


class ContainerConfig(NamedTuple):
    """A container as it was created, with what its image says taken over [CTR-1, CTR-2, CTR-4].

    Attributes:
        id: 64 hexadecimal digits [CTR-5].
        image: as people named it; *image_root* is the digest of its entry in the store: *manifest*, or
            the index that has it; *image_id* that of its config.
        deltas: the directories of its layers in the store, by name, base first.
        created: nanoseconds since the epoch.
        entrypoint, cmd: None where there is none; both together are the words of the first process.
        cwd: its working directory; *user* is ``user[:group]``.
        labels: those of the image, and those that were given.
        exposed: ports as ``80/tcp``, of the image and of ``--expose`` [CTR-1].
        tty: its streams are a terminal. *stdin*: it has a standard input that can be written to;
            *stdin_once*: which ends with the first command that was attached to it.
        stop_signal: a name or a number; "" is SIGTERM. *stop_seconds*: None is ten.
        health: None where nothing is said of it; *shell* is the image's, which runs it.
        attached: it was made to be followed from its first byte on.
        network: its mode; *resolv_conf* is the text of its file, *add_hosts* are names with addresses.
        networks: those that it is on, where it has networks of its own; *ports* are published there.
        dns, dns_search, dns_options: of a resolv.conf there, the machine's unless others were given;
            *given* names those of them that were.
        mounts: what it has besides its own files.
        readonly: nothing can be written but in mounts.
        auto_remove: it goes when it has ended.
        init: its first process is an init, which reaps what others leave.
        limits: of its cgroup; *has_cpus*: the processor's were given as one number; *ulimits* are
            ``(name, soft, hard)``; *shm_bytes*: 0 is 64 MiB.
        privileges: what it may beside docker's default, or may not.
        shown: fields of docker's that mean nothing here and are shown as they were given: ``HostConfig``
            has the container's, ``Endpoints`` those of its networks by their names.
        namespaces: those that it has together with others.
        domainname: of its host.
    """

    id: str
    name: str
    image: str
    manifest: str
    deltas: tuple[str, ...]
    image_root: str = ""
    image_id: str = ""
    created: int = 0

    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    hostname: str = ""
    labels: Mapping[str, str] = {}
    exposed: tuple[str, ...] = ()
    tty: bool = False
    stdin: bool = False
    stdin_once: bool = False
    stop_signal: str = ""
    stop_seconds: float | None = None
    health: HealthCheck | None = None
    shell: tuple[str, ...] = ()
    attached: bool = False

    network: str = "host"
    resolv_conf: str = ""
    add_hosts: tuple[tuple[str, str], ...] = ()
    networks: tuple[EndpointOrder, ...] = ()
    ports: tuple[PortOrder, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    mounts: tuple[MountPoint, ...] = ()
    readonly: bool = False
    restart: RestartPolicy = RestartPolicy()
    auto_remove: bool = False
    log: LogConfig = LogConfig()
    init: bool = False
    limits: StepLimits = StepLimits()
    has_cpus: bool = False
    ulimits: tuple[tuple[str, int, int], ...] = ()
    shm_bytes: int = 0
    privileges: ContainerPrivileges = ContainerPrivileges()
    shown: Mapping[str, Any] = {}
    namespaces: ContainerNamespaces = ContainerNamespaces()
    domainname: str = ""

    @property
    def short_id(self) -> str:
        return self.id[:12]

    @property
    def image_digests(self) -> frozenset[str]:
        """The digests by which the store knows its image: of a tree that is no image's there are none."""
        return frozenset(one for one in (self.image_root, self.manifest) if one)

    @property
    def full_hostname(self) -> str:
        """The name of its host, with the domain."""
        return ".".join(one for one in (self.hostname, self.domainname) if one)

    @property
    def args(self) -> tuple[str, ...]:
        """The words of the first process, the image's entrypoint before the command."""
        return (*(self.entrypoint or ()), *(self.cmd or ()))

    @property
    def probe(self) -> HealthCheck | None:
        """The look after its health that is carried out; None where nobody looks."""
        return None if self.health is None else self.health.resolved(self.shell)

    def to_json(self) -> str:
        """Return the text of its file."""
        document = self._asdict()
        for name in _PARTS:
            part = document[name]
            document[name] = None if part is None else part._asdict()
        document["mounts"] = [mount._asdict() for mount in self.mounts]
        return lightjson.dumps(document, sort_keys=True)

    @staticmethod
    def of_json(data: bytes) -> ContainerConfig:
        """Return the container that `to_json` wrote; fields that another version had are left out.

        Raises:
            AttributeError, ValueError, TypeError: the text is damaged.
        """
        document: dict[str, Any] = lightjson.loads(data)
        if not document.keys() >= _REQUIRED:
            raise ValueError(f"no {', '.join(sorted(_REQUIRED - document.keys()))}")
        values: list[Any] = []
        for name, default in zip(ContainerConfig._fields, _PLAINEST, strict=True):
            value = document.get(name, default)
            if value is not default and value.__class__ not in _PLAIN:
                value = default if value == _AS_READ[name] else _read(name, value)
            values.append(value)
        return ContainerConfig(*values)


_REQUIRED = frozenset(("id", "name", "image", "manifest", "deltas"))
_PLAINEST = ContainerConfig(id="", name="", image="", manifest="", deltas=())
"""A container of which nothing is said: the fields that a file lacks are as there."""
_AS_READ: dict[str, Any] = lightjson.loads(_PLAINEST.to_json())
"""Its document: most fields of most containers are as there, and need not be made anew."""


def _read(name: str, value: Any) -> Any:
    if name == "mounts":
        return tuple(map(MountPoint.of_json, value))
    if name in _LISTS:
        return tuple(_LISTS[name](*_frozen(one)) for one in value)
    part = _PARTS.get(name)
    if part is None:
        return _frozen(value)
    return part(**{key: _frozen(value[key]) for key in part._fields if key in value})


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_frozen, value))  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return value
