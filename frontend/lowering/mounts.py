"""``RUN --mount`` and ``--device``: one record of options each, read and turned into mounts [MNT, RUN-7]."""

from __future__ import annotations

import re
from collections.abc import Callable

from pybuild.frontend.lowering import paths
from pybuild.frontend.syntax import ast
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError
from pybuild.model.ops import CacheSharing, Device, MountType
from pybuild.model.suggest import did_you_mean
from pybuild.model.text import boolean

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgtp])?i?b?\Z", re.ASCII | re.IGNORECASE)
_KEYS = (
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
) + ("uid", "gid", "src", "dst", "destination", "ro", "rw", "readwrite", "env")
_DEVICE_KEYS = ("name", "required")
_MAY_BE_REQUIRED = (MountType.SECRET, MountType.SSH)
_HAS_OWNER = (MountType.CACHE, MountType.SECRET, MountType.SSH)


@dataclass(slots=True, kw_only=True)
class MountSpec:
    """One ``--mount``, checked but not yet resolved; None stands for "not given"."""

    type: MountType = MountType.BIND
    from_name: str = ""
    source: str = ""
    target: str = ""
    readonly: bool | None = None
    id: str = ""
    sharing: CacheSharing | None = None
    required: bool = False
    size_bytes: int = 0
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    env: str | None = None


def mount_sources(run: ast.Run) -> tuple[str, ...]:
    """Return the ``from`` of each mount of *run*, empty where it has none.

    Raises:
        UserError: a record is malformed, or its ``from`` has a variable [MNT-4].
    """
    names: list[str] = []
    for record in run.flag_list("mount"):
        name = ""
        for part in _csv_fields(record):
            key, _, value = part.partition("=")
            if key.lower() == "from":
                if "$" in value[:-1]:
                    raise UserError(
                        "'from' doesn't support variable expansion, define alias stage instead"
                    )
                name = value
        names.append(name)
    return tuple(names)


def parse_mount(record: str, expand: Callable[[str], str]) -> MountSpec:
    """Read one record; values are expanded first [MNT-21].

    Raises:
        UserError: anything that the table of options does not allow [MNT-1..12].
    """
    spec = MountSpec()
    for part in _csv_fields(record):
        key, equals, value = part.partition("=")
        key = key.lower()
        if equals:
            _set_value(spec, key, expand(value), part)
        else:
            _set_bare(spec, key, part)
    _check(spec)
    return spec


def _set_bare(spec: MountSpec, key: str, part: str) -> None:
    match key:
        case "readonly" | "ro":
            spec.readonly = True
        case "readwrite" | "rw":
            spec.readonly = False
        case "required":
            _only_for(spec, key, _MAY_BE_REQUIRED)
            spec.required = True
        case _:
            raise UserError(f"invalid field '{part}' must be a key=value pair")


def _set_value(spec: MountSpec, key: str, value: str, part: str) -> None:
    match key:
        case "type":
            spec.type = _mount_type(value)
        case "from":
            spec.from_name = value
        case "source" | "src":
            spec.source = value
        case "target" | "dst" | "destination":
            spec.target = value
        case "readonly" | "ro":
            spec.readonly = _boolean(key, value)
        case "readwrite" | "rw":
            spec.readonly = not _boolean(key, value)
        case "required":
            _only_for(spec, key, _MAY_BE_REQUIRED)
            spec.required = _boolean(key, value)
        case "size":
            _only_for(spec, key, (MountType.TMPFS,))
            spec.size_bytes = _size(key, value)
        case "id":
            spec.id = value
        case "sharing":
            spec.sharing = _sharing(value)
        case "mode":
            spec.mode = _number(key, value, 8)
        case "uid":
            spec.uid = _number(key, value, 10)
        case "gid":
            spec.gid = _number(key, value, 10)
        case "env":
            spec.env = value
        case _:
            raise UserError(f"unexpected key '{key}' in '{part}'" + did_you_mean(key, _KEYS))


def _check(spec: MountSpec) -> None:
    """Refuse options that do not go together."""
    if spec.type not in _HAS_OWNER:
        for name in ("mode", "uid", "gid"):
            if getattr(spec, name) is not None:
                raise UserError(f'{name} not allowed for "{spec.type}" type mounts')
    if spec.type is MountType.SECRET:
        if spec.from_name:
            raise UserError("secret mount should not have a from")
        if spec.sharing is not None:
            raise UserError("secret mount should not define sharing")
        if not (spec.source or spec.target or spec.id):
            raise UserError("invalid secret mount. one of source, target required")
        if spec.source and spec.id:
            raise UserError("both source and id can't be set")
    if spec.type is MountType.SSH and spec.source:
        raise UserError("ssh does not support source")
    if spec.sharing is not None and spec.type is not MountType.CACHE:
        raise UserError(f"invalid cache sharing set for {spec.type} mount")


def _only_for(spec: MountSpec, key: str, types: tuple[MountType, ...]) -> None:
    if spec.type not in types:
        raise UserError(f"unexpected key '{key}' for mount type '{spec.type}'")


def _mount_type(value: str) -> MountType:
    try:
        return MountType(value.lower())
    except ValueError:
        hint = did_you_mean(value.lower(), tuple(MountType))
        raise UserError(f'unsupported mount type "{value}"{hint}') from None


def _sharing(value: str) -> CacheSharing:
    try:
        return CacheSharing(value.lower())
    except ValueError:
        hint = did_you_mean(value.lower(), tuple(CacheSharing))
        raise UserError(f'unsupported sharing value "{value}"{hint}') from None


def _boolean(key: str, value: str) -> bool:
    parsed = boolean(value)
    if parsed is None:
        raise UserError(f"invalid value for {key}: {value}")
    return parsed


def _number(key: str, value: str, base: int) -> int:
    digits = "01234567" if base == 8 else "0123456789"
    if value and len(value) <= 12 and all(char in digits for char in value):
        number = int(value, base)
        if number < 1 << 32:
            return number
    raise UserError(f"invalid value {value} for {key}")


def _size(key: str, value: str) -> int:
    match = _SIZE.match(value)
    if match is None or len(value) > 32:
        raise UserError(f"invalid value for {key}: {value}")
    from decimal import Decimal  # only here, and slow to import

    power = " kmgtp".index((match[2] or " ").lower())
    size = int(Decimal(match[1]) * 1024**power)
    if size >= 1 << 63:
        raise UserError(f"invalid value for {key}: {value}")
    return size


def _csv_fields(record: str) -> list[str]:
    """Split one line of comma-separated values; ``"a,b"`` is one field, ``""`` a quote in it."""
    out: list[str] = []
    at = 0
    while True:
        if record[at : at + 1] == '"':
            field, at = _quoted(record, at + 1)
        else:
            end = record.find(",", at)
            end = len(record) if end < 0 else end
            field, at = record[at:end], end
            if '"' in field:
                raise UserError(f'failed to parse csv mounts: bare " in non-quoted field: {field}')
        out.append(field)
        if at == len(record):
            return out
        at += 1


def _quoted(record: str, at: int) -> tuple[str, int]:
    """Read a quoted field from behind its first quote; return it and where it ends."""
    field = ""
    while True:
        end = record.find('"', at)
        if end < 0:
            raise UserError(f"failed to parse csv mounts: quote is not closed: {record}")
        field += record[at:end]
        if record[end + 1 : end + 2] != '"':
            break
        field += '"'
        at = end + 2
    if end + 1 < len(record) and record[end + 1] != ",":
        raise UserError(f'failed to parse csv mounts: extraneous " in field: {record}')
    return field, end + 1


def absolute_target(spec: MountSpec, cwd: str) -> str:
    """Return the mount's place; a relative target starts at the working directory [MNT-2]."""
    target = paths.join(cwd, spec.target)
    if target == "/":
        hint = "say where it is mounted: target=/path"
        raise UserError(f'invalid mount target "{target}"', hints=(hint,))
    return target


def parse_device(record: str) -> Device:
    """Read one ``name[,required]``; CDI names hold an equals sign themselves.

    Raises:
        UserError: it names two devices, or says what no device has.
    """
    name, required = "", False
    for field in _csv_fields(record):
        key, equals, value = field.partition("=")
        key = key.lower()
        if key == "required":
            required = _boolean(key, value) if equals else True
        elif key == "name" and equals:
            if name:
                raise UserError(f"device name already set to {name}")
            name = value
        elif not name:
            name = field
        elif not equals:
            raise UserError(f"invalid field '{field}' must be a key=value pair")
        else:
            raise UserError(
                f"unexpected key '{key}' in '{field}'" + did_you_mean(key, _DEVICE_KEYS)
            )
    if not name:
        raise UserError(f'invalid device "{record}": no name')
    return Device(name=name, required=required)
