"""Devices for steps, described by files of the Container Device Interface [RUN-7, SEC-5].

A file names devices and what a step gets for each: variables, device nodes, mounts. JSON and YAML
are read; what cannot be done for a step, such as hooks, is refused.

Source: the interface's own specification, version 0.8, and what the reference makes of names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any, NamedTuple, cast

from pybuild.executor.steps.spec import DeviceEdits, StepMount, StepMountType
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.model.ops import Device
from pybuild.model.text import boolean

DIRECTORIES = ("/etc/cdi", "/var/run/cdi", "/etc/buildkit/cdi")
_CLASS = "org.mobyproject.buildkit.device.class"
_AUTO_ALLOW = "org.mobyproject.buildkit.device.autoallow"
_MAX_BYTES = 4 << 20
_EDITS = frozenset(("env", "deviceNodes", "mounts"))
_JSON, _YAML = ".json", (".yaml", ".yml")

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """One device of a file; *path* is the file's."""

    name: str
    path: str
    edits: Json
    shared: Json
    annotations: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def kind(self) -> str:
        return self.name.partition("=")[0]

    @property
    def is_free(self) -> bool:
        return boolean(self.annotations.get(_AUTO_ALLOW, "")) is True


def find_devices(
    devices: Sequence[Device], allowed: frozenset[str], directories: Sequence[str] = ()
) -> DeviceEdits:
    """Return the edits for *devices*; one that is not there and not required is left out.

    Args:
        allowed: entitlements; ``device`` is all devices, ``device=NAME`` one.
        directories: where the files are; `DIRECTORIES` unless given.

    Raises:
        UserError: one is required and not there, not allowed, or wants what cannot be done.
        EnvironmentFault: a file that has devices is broken.
    """
    if not devices:
        return DeviceEdits()
    known = _read_all(directories or DIRECTORIES)
    chosen: dict[str, _Known] = {}
    for device in devices:
        chosen |= {one.name: one for one in _select(device, known)}
    granted = _granted(allowed, known)
    forbidden = [n for n, one in chosen.items() if n not in granted and not one.is_free]
    if forbidden and "device" not in allowed:
        several = "s" if len(forbidden) > 1 else ""
        is_are = "are" if several else "is"
        raise UserError(
            f"device{several} {', '.join(forbidden)} {is_are} requested by the build but not allowed:"
            " entitlement device",
            hints=(f"grant it with --allow device={forbidden[0]}",),
        )
    env: list[str] = []
    mounts: list[StepMount] = []
    shared: set[str] = set()
    for one in chosen.values():
        parts = [one.edits]
        if one.path not in shared:
            shared.add(one.path)
            parts.insert(0, one.shared)
        for part in parts:
            _edit(one, part, env, mounts)
    return DeviceEdits(env=tuple(env), mounts=tuple(mounts))


class ListedDevice(NamedTuple):
    """A device as it is listed for clients; *is_free*: steps need no grant for it."""

    name: str
    is_free: bool
    annotations: Mapping[str, str]


def list_devices(allowed: frozenset[str], directories: Sequence[str] = ()) -> list[ListedDevice]:
    """Return the devices of all files, sorted; where one of them is broken, none.

    Args:
        allowed, directories: as `find_devices` takes them.
    """
    try:
        known = _read_all(directories or DIRECTORIES)
    except EnvironmentFault:
        return []
    granted = _granted(allowed, known)
    return [
        ListedDevice(name, one.is_free or name in granted, one.annotations)
        for name, one in known.items()
    ]


def _granted(allowed: frozenset[str], known: Mapping[str, _Known]) -> set[str]:
    names: set[str] = set()
    for item in allowed:
        if item.startswith("device="):
            name = item.partition("=")[2]
            names |= {one.name for one in _matches(name, known)}
    return names


def _select(device: Device, known: Mapping[str, _Known]) -> list[_Known]:
    matching = _matches(device.name, known)
    if device.required and not matching:
        raise UserError(f'required device "{device.name}" is not registered')
    return matching


def _matches(pattern: str, known: Mapping[str, _Known]) -> list[_Known]:
    """The devices that a name means: one, the first or all of a kind, or those of a class."""
    kind, equals, name = pattern.partition("=")
    matching: list[_Known] = []
    if "/" in kind:
        matching = [one for one in known.values() if one.kind == kind]
        if not equals:
            matching = matching[:1]
        elif name != "*":
            matching = [one for one in matching if one.name == pattern]
    return matching or [one for one in known.values() if one.annotations.get(_CLASS) == pattern]


# --- files ----------------------------------------------------------------------------------------


def _read_all(directories: Sequence[str]) -> dict[str, _Known]:
    """All devices by name, sorted, later directories before earlier ones."""
    known: dict[str, _Known] = {}
    for directory in directories:
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue
        for name in names:
            path = os.path.join(directory, name)
            if name.endswith((_JSON, *_YAML)):
                known |= {one.name: one for one in _read(path)}
    return dict(sorted(known.items()))


def _read(path: str) -> Iterator[_Known]:
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ValueError(f"more than {_MAX_BYTES} bytes")
        text = data.decode()
        spec = _object(_yaml(text) if path.endswith(_YAML) else json.loads(text))
        kind = spec.get("kind")
        if not isinstance(kind, str) or "/" not in kind:
            raise ValueError("no kind")
        annotations = _object(spec.get("annotations"))
        for item in _list(spec.get("devices")):
            name = item.get("name")
            if not isinstance(name, str) or not name:
                raise ValueError("a device without a name")
            yield _Known(
                name=f"{kind}={name}",
                path=path,
                edits=_object(item.get("containerEdits")),
                shared=_object(spec.get("containerEdits")),
                annotations=_texts({**annotations, **_object(item.get("annotations"))}),
            )
    except (OSError, ValueError, RecursionError) as error:
        raise EnvironmentFault(f"cannot read the devices of {path}: {error}") from error


def _yaml(text: str) -> object:
    """Return the value of a document of YAML: maps, lists, null, and all else as text, which every field takes.

    Raises:
        ValueError: it is none.
    """
    import yaml  # few machines have such a file

    class Texts(yaml.SafeLoader):
        pass

    Texts.yaml_implicit_resolvers = {
        first: [(tag, regexp) for tag, regexp in resolvers if tag.endswith(("null", "merge"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    try:
        return cast(object, yaml.load(text, Texts))
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _object(value: object) -> Json:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError("an object is expected")
    return cast(Json, value)


def _texts(value: Json) -> dict[str, str]:
    if not all(isinstance(text, str) for text in value.values()):
        raise ValueError("annotations are texts")
    return dict(value)


def _list(value: object) -> list[Json]:
    items = cast(list[object], value) if isinstance(value, list) else []
    if value is not None and not isinstance(value, list):
        raise ValueError("a list is expected")
    return [_object(item) for item in items]


# --- edits ----------------------------------------------------------------------------------------


def _edit(one: _Known, edits: Json, env: list[str], mounts: list[StepMount]) -> None:
    other = sorted(name for name, value in edits.items() if value and name not in _EDITS)
    if other:
        raise UserError(
            f'device "{one.name}" wants {other[0]}, which steps cannot have: {one.path}'
        )
    try:
        variables: object = edits.get("env") or []
        if not isinstance(variables, list):
            raise ValueError("env is no list")
        for variable in cast(list[object], variables):
            if not isinstance(variable, str) or "=" not in variable or "\0" in variable:
                raise ValueError(f"env has {variable!r}")
            env.append(variable)
        mounts += [_node(node) for node in _list(edits.get("deviceNodes"))]
        mounts += [_mount(mount) for mount in _list(edits.get("mounts"))]
    except ValueError as error:
        raise EnvironmentFault(f'device "{one.name}" of {one.path}: {error}') from error


def _node(node: Json) -> StepMount:
    path = _path(node, "path")
    source = _path(node, "hostPath") if node.get("hostPath") else path
    rights = node.get("permissions") or "rw"
    if not isinstance(rights, str) or not {"r", "w"} <= set(rights):
        raise ValueError(f"{path}: permissions {rights!r} cannot be kept: nodes are rw")
    return StepMount(type=StepMountType.DEVICE, target=path, source=source)


def _mount(mount: Json) -> StepMount:
    if mount.get("type") not in (None, "", "bind", "none"):
        raise ValueError(f"mount type {mount['type']!r} is not supported")
    options = cast(list[object], mount.get("options") or [])
    return StepMount(
        type=StepMountType.BIND_PATH,
        target=_path(mount, "containerPath"),
        source=_path(mount, "hostPath"),
        readonly="ro" in options,
    )


def _path(value: Json, name: str) -> str:
    path = value.get(name)
    if not isinstance(path, str) or not path.startswith("/") or "\0" in path:
        raise ValueError(f"{name} {path!r} is no absolute path")
    return path
