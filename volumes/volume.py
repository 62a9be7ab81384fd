"""A volume as it was made, and the mount that its options ask for."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, field
from typing import Any

from pybuild.executor.steps.spec import StepMount, StepMountType
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError
from pybuild.model.jsontext import as_object

ANONYMOUS = "com.docker.volume.anonymous"
"""The label of a volume that was given no name."""
_MOST_CHARACTERS = 255
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,254}\Z")
_OPTIONS = ("device", "o", "size", "type")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalVolume:
    """A volume.

    Attributes:
        mountpoint: the directory of its files.
        options: of the driver ``local``: `type`, `device` and `o`, as mount(8) takes them.
        created: nanoseconds since the epoch.
    """

    name: str
    mountpoint: str
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    created: int = 0

    @property
    def is_anonymous(self) -> bool:
        return ANONYMOUS in self.labels

    def to_json(self) -> dict[str, Any]:
        """Return the content of its file, which does not say where it lies."""
        return {key: value for key, value in asdict(self).items() if key != "mountpoint"}

    @staticmethod
    def of_json(document: Mapping[str, Any], mountpoint: str) -> LocalVolume:
        """Return the volume that `to_json` gave *document* of.

        Raises:
            TypeError, KeyError, ValueError: it is damaged.
        """
        texts = [
            {str(key): str(value) for key, value in as_object(document[name]).items()}
            for name in ("options", "labels")
        ]
        return LocalVolume(
            name=str(document["name"]),
            mountpoint=mountpoint,
            options=texts[0],
            labels=texts[1],
            created=int(document["created"]),
        )

    def mount(self, target: str, *, readonly: bool, subpath: str) -> StepMount:
        """Return how a container has it at *target*.

        Raises:
            UserError: *subpath* is not there, or lies outside.
        """
        source, how = self.mountpoint, self.options.get("o", "").split(",")
        if self.options:
            source, readonly = self.options["device"], readonly or "ro" in how
        if subpath:
            _check_subpath(source, subpath)
        return StepMount(
            StepMountType.BIND_PATH, target, source, selector=subpath or "/", readonly=readonly
        )


def _check_subpath(base: str, subpath: str) -> None:
    """Refuse a path of a volume that is not there, or that its links lead out of.

    This is for the words alone: what is mounted is looked up inside the volume once more, so that
    a link that is changed meanwhile leads nowhere else.

    Raises:
        UserError: it is one of them.
    """
    root = os.path.realpath(base)
    place = os.path.realpath(os.path.join(root, subpath))
    if os.path.commonpath((root, place)) != root:
        raise UserError(
            f"path concatenation escapes the base directory, base: {base}, subpath: {subpath}"
        )
    try:
        os.stat(place)
    except FileNotFoundError as error:
        raise UserError(
            f"cannot access path {os.path.join(base, subpath)}: no such file or directory"
        ) from error
    except OSError:  # of others' ids, which the container may see
        return


def is_name(name: str) -> bool:
    """Return whether *name* can be a volume's."""
    return _NAME.match(name) is not None


def check_name(name: str) -> None:
    """Refuse what cannot be a volume's name.

    Raises:
        UserError: it cannot.
    """
    if len(name) == 1:
        raise UserError(
            f"create {name}: volume name is too short, names should be at least two alphanumeric "
            "characters"
        )
    if len(name) > _MOST_CHARACTERS:
        raise UserError(
            f"create {name[:20]}…: volume name is too long, names should be at most "
            f"{_MOST_CHARACTERS} characters"
        )
    if not is_name(name):
        raise UserError(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, '
            "use absolute path"
        )


def check_options(options: Mapping[str, str]) -> None:
    """Refuse options that the driver ``local`` does not have, or that nothing here can do.

    Raises:
        UserError: one of them.
    """
    for name in options:
        if name not in _OPTIONS:
            raise UserError(f'invalid option: "{name}"', hints=["known: type, device, o"])
    if "size" in options:
        raise UserError("quota size requested but no quota support")
    if options and not options.get("device"):
        raise UserError('missing required option: "device"')
    if not options:
        return
    how = options.get("o", "").split(",")
    if not {"bind", "rbind"}.intersection(how) or options.get("type", "none") not in ("none", ""):
        kind = options.get("type", "")
        raise UserError(
            f'a volume of type "{kind}" is not done by pybuild: only binds of directories',
            hints=["mount it on this machine, and bind that: -o type=none -o o=bind -o device=DIR"],
        )
    unknown = sorted(set(how) - {"bind", "rbind", "ro", "rw", ""})
    if unknown:
        raise UserError(
            f'option "{unknown[0]}" of a bound volume is not done by pybuild: only ro and rw'
        )
    if not os.path.isabs(options["device"]):
        raise UserError(f'device "{options["device"]}" of a bound volume must be an absolute path')
