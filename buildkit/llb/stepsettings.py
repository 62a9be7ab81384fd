"""The settings of a step as they travel with an exec op, and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pybuild.buildkit.llb import fields
from pybuild.buildkit.llb.graph import Entry
from pybuild.buildkit.llb.mounts import SHM, chosen
from pybuild.buildkit.pb import ops as pb
from pybuild.model.errors import UsageError
from pybuild.model.ops import NetworkMode, StepSettings
from pybuild.model.options import LIMITS
from pybuild.model.resources import Resources, parse_resources

_NETWORKS = {
    pb.UNSET: NetworkMode.DEFAULT,
    pb.HOST: NetworkMode.HOST,
    pb.NONE: NetworkMode.NONE,
}
_NUMBERS = {ours: number for number, ours in _NETWORKS.items()}
_NO_INPUT = -1


def read_settings(entry: Entry, shm_size_bytes: int) -> StepSettings:
    """Return the settings of an exec op; those of its mounts are read already.

    Raises:
        UserError: one that cannot be.
    """
    received, meta = entry.op.exec, entry.op.exec.meta
    return StepSettings(
        network=chosen(_NETWORKS, received.network, entry, "network mode"),
        hostname=fields.text(meta.hostname, "the host name"),
        add_hosts=tuple(
            (fields.text(host.Host, "a host"), fields.text(host.IP, "an address"))
            for host in meta.extraHosts
        ),
        ulimits=tuple(
            (fields.text(item.Name, "a ulimit"), item.Soft, item.Hard) for item in meta.ulimit
        ),
        shm_size_bytes=shm_size_bytes,
        resources=_read_resources(entry),
    )


def write_settings(settings: StepSettings, out: pb.ExecOp) -> None:
    """Write all of *settings* that an op itself says; the rest is for `write_limits`."""
    meta = out.meta
    out.network = _NUMBERS[settings.network]
    meta.hostname = settings.hostname
    meta.extraHosts.extend(pb.HostIP(Host=name, IP=ip) for name, ip in settings.add_hosts)
    meta.ulimit.extend(
        pb.Ulimit(Name=name, Soft=soft, Hard=hard) for name, soft, hard in settings.ulimits
    )
    meta.cgroupParent = settings.resources.parent
    if settings.shm_size_bytes:
        out.mounts.add(
            input=_NO_INPUT,
            output=_NO_INPUT,
            dest=SHM,
            mountType=pb.TMPFS,
            TmpfsOpt=pb.TmpfsOpt(size=settings.shm_size_bytes),
        )


# --- limits: beside an op, since they are no part of what it is -----------------------------------

_OURS = "pybuild.limit."
"""In front of a limit that LLB has no field for, among the texts that describe an op."""


def _read_resources(entry: Entry) -> Resources:
    given, described = entry.metadata.linux_resources, entry.metadata.description
    texts = {name: described.get(_OURS + name, "") for name in LIMITS if name not in _NAMED}
    limits: dict[str, Any] = {
        option.field: getattr(given, _field(name))
        for name, option in LIMITS.items()
        if name in _NAMED
    }
    parent = fields.text(entry.op.exec.meta.cgroupParent, "the cgroup parent")
    try:
        return replace(parse_resources(texts, parent=parent), **limits)
    except UsageError as error:
        raise entry.wrong(error.message) from error


def write_limits(resources: Resources, out: pb.OpMetadata) -> None:
    """Write the limits of *resources* that are set."""
    for name, option in LIMITS.items():
        value = getattr(resources, option.field)
        if value and name in _NAMED:
            setattr(out.linux_resources, _field(name), value)
        elif value:
            out.description[_OURS + name] = str(value)


def _field(name: str) -> str:
    """Return a limit's name there: ``memory-swap`` is ``memorySwap``."""
    first, *others = name.split("-")
    return first + "".join(other.capitalize() for other in others)


_NAMED = frozenset(
    name for name in LIMITS if hasattr(pb.OpMetadata().linux_resources, _field(name))
)
