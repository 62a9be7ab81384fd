"""The fields of a container that mean nothing here and are shown as they were given [CTR-70]. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pybuild.daemon.rest.fields import Fields

_Reader = Callable[[Fields, str], Any]
_OF_HOST: Mapping[str, _Reader] = {
    "Annotations": Fields.pairs,
    "ConsoleSize": Fields.numbers,
    "ContainerIDFile": Fields.text,
    "Isolation": Fields.text,
    "PublishAllPorts": Fields.flag,
    "Runtime": Fields.text,
    "VolumeDriver": Fields.text,
    "VolumesFrom": Fields.texts,
}
_OF_PLACES: Mapping[str, _Reader] = {
    "DriverOpts": Fields.pairs,
}
_LINK_LOCAL = "LinkLocalIPs"


def shown_fields(host: Fields, places: Mapping[str, Fields]) -> dict[str, Any]:
    """Return the value of `pybuild.containers.config.ContainerConfig.shown`.

    Args:
        host: HostConfig.
        places: the client's settings of each network, by its name.

    Raises:
        ApiRefusal: a field is of another kind.
    """
    shown: dict[str, Any] = {}
    if of_host := _given(host, _OF_HOST):
        shown["HostConfig"] = of_host
    if of_places := {name: known for name, one in places.items() if (known := place_fields(one))}:
        shown["Endpoints"] = of_places
    return shown


def place_fields(given: Fields) -> dict[str, Any]:
    """Return the fields of a container's place on a network that are only shown."""
    known = _given(given, _OF_PLACES)
    if addresses := given.part("IPAMConfig").texts(_LINK_LOCAL):
        known["IPAMConfig"] = {_LINK_LOCAL: list(addresses)}
    return known


def _given(fields: Fields, readers: Mapping[str, _Reader]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, read in readers.items():
        if fields.is_given(name):
            value = read(fields, name)
            given[name] = list(value) if isinstance(value, tuple) else value  # pyright: ignore[reportUnknownArgumentType]
    return given
