"""The ``config.json`` of an OCI runtime bundle, made from an image config [IMG-18].

It holds what crun and runc need to run the image as container engines would by default: their
capabilities, masks and mounts. Who wants more edits the result, which is plain JSON data.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from pybuild.image.config import encode
from pybuild.image.layer import confined
from pybuild.model.errors import UserError

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MAX_DATABASE_BYTES = 4 << 20
_MAX_ID = (1 << 31) - 1
CAPABILITIES = (
    ("CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL")
    + ("CAP_MKNOD", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID")
    + ("CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT")
)
MASKED = (
    ("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats")
    + ("/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi")
    + ("/sys/firmware", "/sys/devices/virtual/powercap")
)
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


class Identity(NamedTuple):
    """The user and groups of the process."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def runtime_config(
    image_config: Mapping[str, Any],
    *,
    identity: Identity,
    rootless: bool = False,
    host_uid: int = 0,
    host_gid: int = 0,
) -> dict[str, Any]:
    """Return the runtime configuration of an image.

    Args:
        image_config: the parsed config blob.
        identity: as `resolve_identity` finds it for ``config.User``.
        rootless: for a runtime started by a plain user: a user namespace with one id, the host's
            network, no new device nodes and no limits.
        host_uid, host_gid: the same id outside.

    Raises:
        UserError: there is nothing to run, or the image is no Linux image.
    """
    system = image_config.get("os") or "linux"
    if system != "linux":
        raise UserError(f"cannot make a bundle of an image for {system}: expected linux")
    config: Mapping[str, Any] = image_config.get("config") or {}
    command = [str(word) for word in config.get("Entrypoint") or ()]
    command += [str(word) for word in config.get("Cmd") or ()]
    if not command:
        raise UserError(
            "image has neither ENTRYPOINT nor CMD: nothing to run", hints=("give a command",)
        )
    environment = [str(item) for item in config.get("Env") or ()]
    if not any(item.startswith("PATH=") for item in environment):
        environment.insert(0, "PATH=" + DEFAULT_PATH)
    if not any(item.startswith("HOME=") for item in environment):
        environment.append("HOME=" + identity.home)
    user: dict[str, Any] = {"uid": identity.uid, "gid": identity.gid}
    if identity.groups and not rootless:
        user["additionalGids"] = list(identity.groups)
    sets = ("bounding", "effective", "permitted") if identity.uid == 0 else ("bounding",)
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": user,
            "args": command,
            "env": environment,
            "cwd": config.get("WorkingDir") or "/",
            "capabilities": {name: list(CAPABILITIES) for name in sets},
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": False},
        "hostname": "pybuild",
        "mounts": _mounts(rootless) + _volumes(config),
        "annotations": _annotations(image_config, config),
        "linux": _linux(rootless, host_uid, host_gid),
    }


def write_bundle(
    bundle_dir: str,
    image_config: Mapping[str, Any],
    *,
    rootless: bool = False,
) -> dict[str, Any]:
    """Write ``config.json`` beside the tree that is already in *bundle_dir*'s ``rootfs``.

    The rootless variant maps the caller's own ids.

    Raises:
        UserError: the image's user is not in its user database, or there is nothing to run.
    """
    config: Mapping[str, Any] = image_config.get("config") or {}
    rootfs = os.path.join(bundle_dir, "rootfs")
    identity = resolve_identity(
        str(config.get("User") or ""),
        _database(rootfs, b"passwd"),
        _database(rootfs, b"group"),
    )
    made = runtime_config(
        image_config,
        identity=identity,
        rootless=rootless,
        host_uid=os.geteuid(),
        host_gid=os.getegid(),
    )
    with open(os.path.join(bundle_dir, "config.json"), "wb") as out:
        out.write(encode(made))
    return made


def resolve_identity(user: str, passwd: str, group: str) -> Identity:
    """Find who ``user[:group]`` is, by name or number, in an image's databases.

    Numbers need no entry. Without a group the user's own counts, and the groups that list the user
    are added; with one, it alone.

    Raises:
        UserError: a name is not there, or a number is out of range.
    """
    name, colon, group_name = user.partition(":")
    users, groups = _rows(passwd, 7), _rows(group, 4)
    name = name or "0"
    row = next((row for row in users if row[0] == name), None)
    if row is None and name.isdigit():
        row = next((row for row in users if row[2] == name), None)
        uid = _number(name, f'user "{user}"')
    elif row is None:
        raise UserError(f'unable to find user "{name}": no matching entry in passwd file')
    else:
        uid = _number(row[2], f'user "{user}"')
    gid = _number(row[3], f'group of user "{user}"') if row else 0
    added: tuple[int, ...] = ()
    if colon and group_name:
        group_row = next((g for g in groups if g[0] == group_name), None)
        if group_row is None and not group_name.isdigit():
            raise UserError(f'unable to find group "{group_name}": no matching entry in group file')
        gid = _number(group_row[2] if group_row else group_name, f'group "{group_name}"')
    elif row is not None:
        added = tuple(
            sorted({int(g[2]) for g in groups if row[0] in g[3].split(",") and _is_id(g[2])})
        )
    return Identity(uid, gid, added, (row[5] if row else "") or "/")


def _rows(text: str, columns: int) -> list[list[str]]:
    rows = [line.strip().split(":") for line in text.splitlines()]
    return [row for row in rows if len(row) >= columns and not row[0].startswith("#")]


def _number(text: str, what: str) -> int:
    if not _is_id(text):
        raise UserError(f"{what} has the id {text[:80]}, expected 0 to {_MAX_ID}")
    return int(text)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _MAX_ID


def _database(rootfs: str, name: bytes) -> str:
    """Read ``/etc/<name>`` of a stranger's tree, following no link: absent counts as empty."""
    root = os.open(rootfs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        folder = confined.open_beneath(root, b"etc")
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            fd = os.open(name, flags, dir_fd=folder)
        finally:
            os.close(folder)
    except OSError:
        return ""
    finally:
        os.close(root)
    with open(fd, "rb") as file:
        return file.read(_MAX_DATABASE_BYTES).decode("utf-8", "replace")


def _mount(target: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": source, "options": list(options)}


def _mounts(rootless: bool) -> list[dict[str, Any]]:
    # Group 5 (tty) is not mapped in a namespace of one id.
    pts = () if rootless else ("gid=5",)
    if rootless:
        # sysfs belongs to the network namespace, which is the host's here.
        system = _mount("/sys", "none", "/sys", "rbind", "nosuid", "noexec", "nodev", "ro")
    else:
        system = _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro")
    return [
        _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount(
            *("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance"),
            *("ptmxmode=0666", "mode=0620", *pts),
        ),
        _mount(
            *("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev"),
            *("mode=1777", "size=65536k"),
        ),
        _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        system,
    ]


def _volumes(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give each declared volume an own, empty, temporary file system."""
    return [
        _mount(str(path), "tmpfs", "tmpfs", "nosuid", "nodev", "mode=755")
        for path in sorted(config.get("Volumes") or ())
    ]


def _annotations(image: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, str]:
    """Labels, and the annotations that the specification derives from other fields."""
    annotations = {
        "org.opencontainers.image.os": str(image.get("os") or ""),
        "org.opencontainers.image.architecture": str(image.get("architecture") or ""),
        "org.opencontainers.image.variant": str(image.get("variant") or ""),
        "org.opencontainers.image.author": str(image.get("author") or ""),
        "org.opencontainers.image.created": str(image.get("created") or ""),
        "org.opencontainers.image.stopSignal": str(config.get("StopSignal") or ""),
        "org.opencontainers.image.exposedPorts": ",".join(sorted(config.get("ExposedPorts") or ())),
    }
    annotations = {key: value for key, value in annotations.items() if value}
    labels: Mapping[str, Any] = config.get("Labels") or {}
    annotations.update((str(key), str(value)) for key, value in labels.items())
    return dict(sorted(annotations.items()))


def _linux(rootless: bool, host_uid: int, host_gid: int) -> dict[str, Any]:
    kinds = ["pid", "ipc", "uts", "mount"] + (["user"] if rootless else ["network"])
    made: dict[str, Any] = {
        "namespaces": [{"type": kind} for kind in kinds],
        "maskedPaths": list(MASKED),
        "readonlyPaths": list(READ_ONLY),
    }
    if rootless:
        made["uidMappings"] = [{"containerID": 0, "hostID": host_uid, "size": 1}]
        made["gidMappings"] = [{"containerID": 0, "hostID": host_gid, "size": 1}]
    else:
        made["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    return made
