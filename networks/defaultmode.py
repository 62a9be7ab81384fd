"""The network of a container that names none: the default bridge, or this machine's where there can be no bridge [NET-5]."""

from __future__ import annotations

import os

from pybuild.executor.zygote import procstatus
from pybuild.executor.zygote.faults import Fault
from pybuild.networks import outside, uplink
from pybuild.networks.firewall import firewall
from pybuild.networks.order import BRIDGE, HOST

_CAP_NET_ADMIN, _CAP_SYS_ADMIN = 12, 21


def default_mode() -> tuple[str, str]:
    """Return that network, and why it is this machine's, "": it is not."""
    obstacle = _obstacle()
    return (HOST, obstacle) if obstacle else (BRIDGE, "")


def note(obstacle: str) -> str:
    """Return the warning about a container that has this machine's network because of *obstacle*."""
    return f"the container has this machine's network: {obstacle}"


def _obstacle() -> str:
    if os.geteuid() != 0 or not procstatus.is_initial():
        return outside.obstacle()
    try:
        known = firewall()
    except Fault:
        return "nftables is not installed (libnftables1)"
    capabilities = procstatus.number("CapEff")
    for name, bit in (("SYS_ADMIN", _CAP_SYS_ADMIN), ("NET_ADMIN", _CAP_NET_ADMIN)):
        if not capabilities >> bit & 1:
            return f"a bridge needs the capability CAP_{name}"
    if not _has_mounted_root():
        return "the root directory is a chroot and no mount point"
    try:
        return uplink.obstacle(known.run("list chains"))
    except OSError as error:
        return error.strerror or "the packet filter cannot be seen"


def _has_mounted_root() -> bool:
    """Whether a mount namespace can be made: not in a chroot."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            return any(line.split()[4] == "/" for line in mounts)
    except OSError:
        return True
