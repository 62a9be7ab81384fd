"""The rights of a container beside docker's default, and below it: capabilities, devices, the filter [CTR-11, CTR-12, CTR-17].

Texts as ``run`` and the API have them are read and checked here, kept in the container's config as they
are, and made into the sandbox's order at each start: a device is looked for then.
"""

from __future__ import annotations

import os
import stat

from pybuild.containers.order import ContainerPrivileges
from pybuild.executor.steps.spec import (
    ALL_CAPABILITIES,
    DeviceEdits,
    StepMount,
    StepMountType,
    StepPrivileges,
)
from pybuild.model.errors import UsageError, UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


_ALL = "ALL"
_GPU = "nvidia.com/gpu"
_GPU_DIGITS = 3
_SYSCTLS = ("net.", "fs.mqueue.")
_KERNEL = ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
_KERNEL_SYSCTLS = frozenset(f"kernel.{name}" for name in _KERNEL)
_NO_NEW = "no-new-privileges"


def capabilities(names: Iterable[str], option: str) -> tuple[str, ...]:
    """Return names of capabilities as the kernel's headers have them: with ``CAP_``, sorted.

    Raises:
        UsageError: there is none of a name.
    """
    known: set[str] = set()
    for name in names:
        full = name.upper()
        if full != _ALL and not full.startswith("CAP_"):
            full = f"CAP_{full}"
        if full != _ALL and full not in ALL_CAPABILITIES:
            raise UsageError(
                f'invalid {option}: unknown capability: "{name}"',
                hints=["such as NET_ADMIN, or ALL"],
            )
        known.add(full)
    return tuple(sorted(known))


def security_opts(texts: Iterable[str]) -> tuple[str, ...]:
    """Check the values of ``--security-opt``.

    Raises:
        UsageError: one is none, or says what cannot be had here.
    """
    known: list[str] = []
    for text in texts:
        name, separator, value = text.partition("=" if "=" in text else ":")
        if name == _NO_NEW:
            if separator and value not in ("true", "false"):
                raise UsageError(f"invalid --security-opt {text}: true or false")
        elif not separator:
            raise UsageError(f'invalid --security-opt 1: "{text}"')
        elif name == "seccomp":
            if value not in ("unconfined", "builtin"):
                raise UsageError(
                    "--security-opt seccomp=FILE: profiles of your own are not read",
                    hints=["there is docker's default, and seccomp=unconfined"],
                )
        elif name in ("apparmor", "label"):
            if value not in ("unconfined", "disable"):
                raise UsageError(
                    f"--security-opt {text}: containers have no profile of that kind",
                    hints=[f"leave it away: a container is as with {name}=unconfined"],
                )
        else:
            raise UsageError(f'invalid --security-opt 2: "{text}"')
        known.append(text)
    return tuple(known)


def device(text: str) -> tuple[str, str, str]:
    """Read ``/dev/a``, ``/dev/a:/dev/b`` or ``/dev/a:/dev/b:rwm``.

    Raises:
        UsageError: it is none of them, or names rights that cannot be kept.
    """
    here, _, rest = text.partition(":")
    there, _, rights = rest.partition(":")
    if there and not there.startswith("/") and not rights:
        there, rights = here, there
    if not here.startswith("/") or ":" in rights or set(rights) - set("rwm"):
        raise UsageError(
            f"bad format for --device: {text}", hints=["--device /dev/fuse, or NAME of a CDI file"]
        )
    if rights and not {"r", "w"} <= set(rights):
        raise UsageError(
            f"--device {text}: a device can be had for reading and writing alone",
            hints=["write rw or rwm"],
        )
    return here, there or here, rights or "rwm"


def gpus(text: str) -> tuple[str, ...]:
    """Return the names in CDI's files of what ``--gpus`` asks for.

    Raises:
        UsageError: it asks for something else than all, a number, or ``device=…``.
    """
    request = text.strip('"').removeprefix("count=")
    if request in ("all", "-1"):
        return (f"{_GPU}=all",)
    if request.isdecimal() and len(request) <= _GPU_DIGITS:
        return tuple(f"{_GPU}={number}" for number in range(int(request)))
    if request.startswith("device="):
        return tuple(f"{_GPU}={name}" for name in request.removeprefix("device=").split(","))
    raise UsageError(f"invalid --gpus {text}", hints=["all, a number, or device=0,1"])


def sysctls(
    texts: Iterable[str], *, own_network: bool, own_ipc: bool = True
) -> tuple[tuple[str, str], ...]:
    """Read ``name=value`` of what the kernel has for each container.

    Args:
        own_network, own_ipc: it has such a namespace of its own.

    Raises:
        UsageError: it has not, or it is that of the machine.
    """
    known: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not (name.startswith(_SYSCTLS) or name in _KERNEL_SYSCTLS) or ".." in name:
            raise UsageError(
                f"sysctl '{text}' is not allowed",
                hints=[
                    "those of namespaces can be had: net.…, fs.mqueue.…, kernel.shm…, kernel.msg…"
                ],
            )
        if name.startswith("net.") and not own_network:
            raise UsageError(
                f"sysctl '{name}' not allowed as the container has the host's network",
                hints=["give it a network of its own: --network"],
            )
        if not (name.startswith("net.") or own_ipc):
            raise UsageError(
                f"sysctl '{name}' not allowed as the container has an IPC namespace of others",
                hints=["leave --ipc away, or set it there"],
            )
        known[name] = value
    return tuple(sorted(known.items()))


def oom_score_adj(score: int) -> int:
    """Check a score.

    Raises:
        UsageError: the kernel has no such score.
    """
    if not -1000 <= score <= 1000:
        raise UsageError(f"invalid --oom-score-adj {score}: -1000 to 1000")
    return score


def has_own_namespace(mode: str) -> bool:
    """Return whether a container of this network mode has a network namespace that nobody else has."""
    return mode not in ("host", "default") and not mode.startswith("container:")


def step_privileges(given: ContainerPrivileges) -> StepPrivileges:
    """Return the sandbox's order."""
    options = dict(_option(text) for text in given.security_opts)
    drop = _mask(given.cap_drop)
    add = _mask(given.cap_add)
    if _ALL in given.cap_add:
        add &= ~drop
    elif _ALL not in given.cap_drop:
        drop &= ~add
    return StepPrivileges(
        add=0 if given.privileged else add,
        drop=0 if given.privileged else drop,
        filtered=options.get("seccomp") != "unconfined",
        no_new=options.get(_NO_NEW, "false") in ("true", ""),
        groups=given.groups,
        oom_score_adj=given.oom_score_adj,
        sysctls=given.sysctls,
    )


def _option(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=" if "=" in text else ":")
    return name, value


def _mask(names: Sequence[str]) -> int:
    every = (1 << len(ALL_CAPABILITIES)) - 1
    if _ALL in names:
        return every
    return sum(1 << ALL_CAPABILITIES.index(name) for name in names)


def device_edits(given: ContainerPrivileges) -> DeviceEdits:
    """Return the environment and the mounts of its devices, as they are now.

    Raises:
        UserError, EnvironmentFault: one is not there, or is none.
    """
    edits = DeviceEdits()
    if given.cdi:
        from pybuild.executor.devices import find_devices
        from pybuild.model.ops import Device

        named = [Device(name=name, required=True) for name in given.cdi]
        edits = find_devices(named, frozenset({"device"}))
    nodes: list[StepMount] = []
    for here, there, rights in given.devices:
        if not (mounts := _nodes(here, there, rights)):
            raise UserError(
                f'error gathering device information while adding custom device "{here}": not a '
                "device node"
            )
        nodes += mounts
    return DeviceEdits(env=edits.env, mounts=(*nodes, *edits.mounts))


def _nodes(here: str, there: str, _rights: str) -> list[StepMount]:
    """Return the mounts of a device, or of all that a directory has."""
    try:
        mode = os.stat(here).st_mode
    except OSError as error:
        raise UserError(
            f'error gathering device information while adding custom device "{here}": '
            f"{(error.strerror or '').lower()}"
        ) from error
    if not stat.S_ISDIR(mode):
        return [StepMount(StepMountType.DEVICE, there, here)]
    nodes: list[StepMount] = []
    for name in sorted(os.listdir(here)):
        path = os.path.join(here, name)
        if not os.path.islink(path) and (os.path.isdir(path) or _is_node(path)):
            nodes += _nodes(path, os.path.join(there, name), "")
    return nodes


def _is_node(path: str) -> bool:
    mode = os.lstat(path).st_mode
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
