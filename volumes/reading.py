"""Mounts as people write them: ``-v``, ``--mount``, ``--tmpfs``, ``--volumes-from`` [CTR-101…103]."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Mapping, Sequence

from pybuild.model.amounts import parse_binary_size
from pybuild.model.errors import UsageError
from pybuild.model.text import split_csv
from pybuild.volumes.mountpoint import MountKind, MountOrigin, MountPoint
from pybuild.volumes.volume import check_name

_FORM = "expected HOST:PATH[:OPTIONS], VOLUME:PATH[:OPTIONS] or PATH"
_ACCESS = ("ro", "rw")
_LABELS = ("z", "Z")
_CONSISTENCY = ("consistent", "cached", "delegated")
_PRIVATE = ("private", "rprivate")
_SHARED = ("shared", "rshared", "slave", "rslave")
_KINDS = (_ACCESS, _LABELS, _CONSISTENCY, (*_PRIVATE, *_SHARED), ("nocopy",))


def read_bind(text: str) -> MountPoint:
    """Read the value of ``-v``: a directory of the host, a volume's name, or a path for a new one.

    Raises:
        UsageError: it is none.
    """
    parts = text.split(":")
    if len(parts) > 3 or not text:
        raise UsageError(f'invalid volume specification: "{text}"', hints=[_FORM])
    if len(parts) == 1:
        return MountPoint(kind=MountKind.VOLUME, target=_target(text, parts[0]), text=text)
    source, target = parts[0], _target(text, parts[1])
    mode = parts[2] if len(parts) == 3 else ""
    words = mode.split(",") if mode else []
    _check_mode(text, mode, words)
    if not source:
        raise UsageError(f'invalid volume specification: "{text}"', hints=[_FORM])
    readonly = "ro" in words
    if source.startswith(("/", "./", "../", "~/")) or source in (".", ".."):
        if "nocopy" in words:
            raise UsageError(
                f'invalid mode: {mode}: nocopy is for volumes, and "{source}" is a directory'
            )
        return MountPoint(
            kind=MountKind.BIND,
            target=target,
            source=os.path.abspath(os.path.expanduser(source)),
            readonly=readonly,
            text=text,
            mode=mode,
            propagation=next((word for word in words if word in _PRIVATE), ""),
        )
    check_name(source)
    return MountPoint(
        kind=MountKind.VOLUME,
        target=target,
        source=source,
        readonly=readonly,
        text=text,
        mode=mode or "z",
        nocopy="nocopy" in words,
    )


def _target(text: str, path: str) -> str:
    target = posixpath.normpath(f"/{path.lstrip('/')}")
    if not path.startswith("/"):
        raise UsageError(
            f"invalid volume specification: '{text}': invalid mount config for type \"volume\": "
            f"invalid mount path: '{path}' mount path must be absolute",
            hints=[_FORM],
        )
    if target == "/":
        raise UsageError(f"invalid volume specification: '{text}': destination can't be '/'")
    return target


def _check_mode(text: str, mode: str, words: Sequence[str]) -> None:
    for word in words:
        kind = next((kind for kind in _KINDS if word in kind), None)
        if kind is None or sum(other in kind for other in words) > 1:
            raise UsageError(f'invalid mode: {mode} (of volume "{text}")', hints=[_FORM])
        if word in _SHARED:
            raise UsageError(
                f"propagation {word} is not done by pybuild: mounts of the host made later do not "
                "appear in containers",
                hints=["leave it out, or mount what is needed before the container starts"],
            )


def read_tmpfs(text: str) -> MountPoint:
    """Read the value of ``--tmpfs``: ``PATH[:size=1m,mode=700]``.

    Raises:
        UsageError: it is none.
    """
    path, _, options = text.partition(":")
    size, permissions, executable = 0, None, False
    for option in filter(None, options.split(",")):
        key, _, value = option.partition("=")
        if key == "size":
            size = parse_binary_size(value, f'size of tmpfs "{text}"')
        elif key == "mode":
            permissions = _permissions(text, value)
        elif option in ("exec", "noexec"):
            executable = option == "exec"
        elif option not in ("rw", "nosuid", "nodev"):
            raise UsageError(
                f'invalid tmpfs option "{option}" in "{text}"', hints=["known: size, mode, exec"]
            )
    return MountPoint(
        kind=MountKind.TMPFS,
        target=_target(text, path),
        origin=MountOrigin.TMPFS,
        text=options,
        size_bytes=size,
        permissions=permissions,
        executable=executable,
    )


def _permissions(text: str, value: str) -> int:
    try:
        number = int(value, 8)
    except ValueError:
        number = -1
    if not 0 <= number <= 0o7777:
        raise UsageError(f'invalid mode "{value}" in "{text}": expected an octal number')
    return number


def read_mount(text: str) -> MountPoint:
    """Read the value of ``--mount``: ``type=bind,source=…,target=…``.

    Raises:
        UsageError: it is none.
    """
    given: dict[str, str] = {}
    labels: dict[str, str] = {}
    options: dict[str, str] = {}
    for item in split_csv(text):
        name, equals, value = item.partition("=")
        name = _NAMES.get(name.lower(), name.lower())
        if name in ("volume-label", "volume-opt"):
            key, _, value = value.partition("=")
            (labels if name == "volume-label" else options)[key] = value
        elif name not in _FIELDS:
            raise UsageError(
                f"unexpected key '{name}' in '{item}'",
                hints=[f"known: {', '.join(sorted({*_FIELDS, 'volume-label', 'volume-opt'}))}"],
            )
        elif not equals and name not in _SWITCHES:
            raise UsageError(f"invalid field '{item}' must be a key=value pair")
        else:
            given[name] = value if equals else "true"
    return mount_from(text, given, labels, options)


_NAMES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_SWITCHES = ("readonly", "volume-nocopy", "bind-nonrecursive")
_OF_KIND = {
    "bind": ("bind-propagation", "bind-nonrecursive", "bind-recursive"),
    "volume": ("volume-nocopy", "volume-driver", "volume-subpath"),
    "tmpfs": ("tmpfs-size", "tmpfs-mode"),
}
_FIELDS = (
    *("type", "source", "target", "readonly", "consistency"),
    *(name for names in _OF_KIND.values() for name in names),
)


def mount_from(
    text: str,
    given: Mapping[str, str],
    labels: Mapping[str, str],
    options: Mapping[str, str],
    *,
    creates: bool = False,
) -> MountPoint:
    """Return the mount that the fields of ``--mount`` describe.

    Args:
        text: all of it, for messages.
        creates: the source of a bind is made where there is none.

    Raises:
        UsageError: there can be no such mount.
    """
    type = given.get("type", "volume")
    if type not in _OF_KIND:
        raise UsageError(
            f'mount type "{type}" is not done by pybuild', hints=["there are bind, volume, tmpfs"]
        )
    for name in given:
        if any(name in names for kind, names in _OF_KIND.items() if kind != type):
            raise UsageError(f"cannot mix '{name}' with mount type '{type}'")
    if (labels or options) and type != "volume":
        raise UsageError(f"cannot mix 'volume-*' options with mount type '{type}'")
    if "target" not in given:
        raise UsageError(f'invalid mount "{text}": target is required')
    mount = MountPoint(
        kind=type,
        target=_target(text, given["target"]),
        source=given.get("source", ""),
        readonly=_switch(given, "readonly"),
        origin=MountOrigin.MOUNT,
        text=text,
        mode="z" if type == "volume" else "",
        nocopy=_switch(given, "volume-nocopy"),
        subpath=given.get("volume-subpath", ""),
        driver=given.get("volume-driver", ""),
        labels=labels,
        options=options,
        size_bytes=_size(given),
        permissions=_permissions(text, given["tmpfs-mode"]) if "tmpfs-mode" in given else None,
        propagation=given.get("bind-propagation", ""),
    )
    if creates and os.path.isabs(mount.source):
        os.makedirs(mount.source, exist_ok=True)
    _CHECKS[mount.kind](mount, given)
    return mount


def _size(given: Mapping[str, str]) -> int:
    size = given.get("tmpfs-size", "")
    return parse_binary_size(size, "tmpfs-size") if size else 0


def _switch(given: Mapping[str, str], name: str) -> bool:
    value = given.get(name, "false").lower()
    if value not in ("true", "false", "1", "0"):
        raise UsageError(f"invalid value for {name}: {value}")
    return value in ("true", "1")


def _check_bind(mount: MountPoint, given: Mapping[str, str]) -> None:
    if not mount.source:
        raise UsageError('invalid mount config for type "bind": field Source must not be empty')
    if not os.path.isabs(mount.source):
        raise UsageError(
            f"invalid mount config for type \"bind\": invalid mount path: '{mount.source}' "
            "mount path must be absolute"
        )
    if not os.path.exists(mount.source):
        raise UsageError(
            f'invalid mount config for type "bind": bind source path does not exist: {mount.source}'
        )
    if mount.propagation and mount.propagation not in _PRIVATE:
        _check_mode(mount.text, mount.propagation, [mount.propagation])
    if _switch(given, "bind-nonrecursive") or given.get("bind-recursive", "enabled") != "enabled":
        raise UsageError("binds that are not recursive are not done by pybuild")


def _check_volume(mount: MountPoint, _given: Mapping[str, str]) -> None:
    if mount.source:
        check_name(mount.source)
    if mount.subpath and (mount.subpath.startswith("/") or ".." in mount.subpath.split("/")):
        raise UsageError(
            f'invalid volume-subpath "{mount.subpath}": subpath must be a relative path within the '
            "volume"
        )


def _check_tmpfs(mount: MountPoint, _given: Mapping[str, str]) -> None:
    if mount.source:
        raise UsageError(
            'invalid mount config for type "tmpfs": field Source must not be specified'
        )


_CHECKS: dict[str, Callable[[MountPoint, Mapping[str, str]], None]] = {
    MountKind.BIND: _check_bind,
    MountKind.VOLUME: _check_volume,
    MountKind.TMPFS: _check_tmpfs,
}


def read_volumes_from(text: str) -> tuple[str, bool | None]:
    """Read the value of ``--volumes-from``: a container, and whether all is to be read-only.

    Raises:
        UsageError: another mode.
    """
    name, colon, mode = text.partition(":")
    if colon and mode not in (*_ACCESS, *_LABELS):
        raise UsageError(f'invalid mode: {mode} (of "{text}")')
    return name, {"ro": True, "rw": False}.get(mode)
