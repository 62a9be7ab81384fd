"""Lists and descriptions of an engine far away, as rows and documents of docker's fields."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pybuild.client.docker.creation import CreationOptions
from pybuild.client.docker.requests import EngineRefusal, Requests, named
from pybuild.containers.addresses import ShownPort, ports_text
from pybuild.model.amounts import human_age, short_bytes
from pybuild.model.errors import UserError
from pybuild.model.filtertext import filter_values
from pybuild.model.jsontext import as_list, as_object
from pybuild.model.labelstext import LabelsText
from pybuild.model.listing import cut

Row = dict[str, Any]
_SHORT = 12
_MISSING = 404


def _filters(options: CreationOptions) -> dict[str, str]:
    known = filter_values(options.many("filter"))
    return {"filters": json.dumps(known)} if known else {}


def _age(seconds: int) -> str:
    return human_age((datetime.now(UTC) - datetime.fromtimestamp(seconds, UTC)).total_seconds())


def _when(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} +0000 UTC"


# --- lists ----------------------------------------------------------------------------------------


def containers(engine: Requests, options: CreationOptions) -> list[Row]:
    """Return the rows of ``ps``."""
    query: dict[str, Any] = {**_filters(options), "all": options.flag("all")}
    query["size"] = options.flag("size") or ".Size" in options.one("format")
    last = "1" if options.flag("latest") else options.one("last", "-1")
    if last.isdecimal() and int(last) > 0:
        query["limit"] = last
    whole = options.flag("no-trunc")
    return [_container(one, whole) for one in engine.ask("GET", "/containers/json", query)]


def _container(one: Mapping[str, Any], whole: bool) -> Row:
    mounts = [str(mount.get("Name") or mount.get("Source") or "") for mount in one["Mounts"]]
    volumes = [mount for mount in one["Mounts"] if mount.get("Type") == "volume"]
    command, ports = str(one["Command"]), as_list(one.get("Ports"))
    networks = as_object(as_object(one.get("NetworkSettings")).get("Networks"))
    sizes = f"{short_bytes(one.get('SizeRw', 0))} (virtual {short_bytes(one.get('SizeRootFs', 0))})"
    own = min(one["Names"], key=lambda name: str(name).count("/"))  # the others are of links
    return {
        "Command": f'"{command if whole else cut(command, 20)}"',
        "CreatedAt": _when(one["Created"]),
        "ID": one["Id"] if whole else one["Id"][:_SHORT],
        "Image": one["Image"],
        "Labels": LabelsText.of(as_object(one.get("Labels"))),
        "LocalVolumes": str(len(volumes)),
        "Mounts": ",".join(name if whole else cut(name, 15) for name in mounts if name),
        "Names": own.lstrip("/"),
        "Networks": ",".join(networks) or one["HostConfig"]["NetworkMode"],
        "Ports": ports_text(
            ShownPort(
                port["PrivatePort"], port["Type"], port.get("IP", ""), port.get("PublicPort", 0)
            )
            for port in ports
        ),
        "RunningFor": _age(one["Created"]),
        "Size": sizes if "SizeRootFs" in one else "0B",
        "State": one["State"],
        "Status": one["Status"],
    }


def images(engine: Requests, options: CreationOptions, reference: str) -> list[Row]:
    """Return the rows of ``images``, a row a name; *reference* chooses those of a repository."""
    query = _filters(options)
    if reference:
        known = filter_values([*options.many("filter"), f"reference={reference}"])
        query["filters"] = json.dumps(known)
    whole = options.flag("no-trunc")
    rows: list[Row] = []
    for one in engine.ask("GET", "/images/json", query):
        digests = {
            name: digest
            for name, _, digest in (text.partition("@") for text in as_list(one.get("RepoDigests")))
        }
        for name in one.get("RepoTags") or ["<none>:<none>"]:
            repository, _, tag = name.rpartition(":")
            rows.append(_image(one, repository, tag, digests.get(repository, "<none>"), whole))
    return rows


def _image(one: Mapping[str, Any], repository: str, tag: str, digest: str, whole: bool) -> Row:
    return {
        "CompressedSize": "N/A",
        "Containers": "N/A",
        "CreatedAt": _when(one["Created"]),
        "CreatedSince": _age(one["Created"]),
        "Digest": digest,
        "ID": one["Id"] if whole else one["Id"].partition(":")[2][:_SHORT],
        "Labels": LabelsText.of(as_object(one.get("Labels"))),
        "Repository": repository,
        "SharedSize": "N/A",
        "Size": short_bytes(one["Size"]),
        "Tag": tag,
        "UniqueSize": "N/A",
    }


def networks(engine: Requests, options: CreationOptions) -> list[Row]:
    """Return the rows of ``network ls``."""
    whole = options.flag("no-trunc")
    return [
        {
            "ID": one["Id"] if whole else one["Id"][:_SHORT],
            "Name": one["Name"],
            "Driver": one["Driver"],
            "Scope": one["Scope"],
            "IPv6": str(one.get("EnableIPv6", False)).lower(),
            "Internal": str(one.get("Internal", False)).lower(),
            "Labels": LabelsText.of(as_object(one.get("Labels"))),
            "CreatedAt": one.get("Created", ""),
        }
        for one in engine.ask("GET", "/networks", _filters(options))
    ]


def volumes(engine: Requests, options: CreationOptions) -> list[Row]:
    """Return the rows of ``volume ls``, by name."""
    listed = as_list(engine.ask("GET", "/volumes", _filters(options)).get("Volumes"))
    beside = ("Availability", "Group", "Links", "Size", "Status")
    return [
        {
            **dict.fromkeys(beside, "N/A"),
            "Driver": one["Driver"],
            "Labels": LabelsText.of(as_object(one.get("Labels"))),
            "Mountpoint": one["Mountpoint"],
            "Name": one["Name"],
            "Scope": one["Scope"],
        }
        for one in sorted(listed, key=lambda one: str(one["Name"]))
    ]


# --- descriptions ---------------------------------------------------------------------------------


def _document(noun: str) -> Callable[[Requests, bool, str], Row]:
    def look(engine: Requests, sized: bool, name: str) -> Row:
        query = {"size": True} if sized and noun == "containers" else None
        more = () if noun in ("networks", "volumes") else ("json",)
        shown: Row = engine.ask("GET", named(noun, name, *more), query)
        return shown

    return look


_KINDS = {"container": "containers", "image": "images", "network": "networks", "volume": "volumes"}


def document(engine: Requests, kind: str, sized: bool, name: str) -> Row:
    """Return the description of what has that name: of *kind*, else a container, an image, a network or a volume.

    Raises:
        UserError: there is none.
    """
    for noun in [_KINDS[kind]] if kind in _KINDS else _KINDS.values():
        try:
            return _document(noun)(engine, sized, name)
        except EngineRefusal as error:
            if kind or error.status != _MISSING:
                raise
    raise UserError(f"no such object: {name}")


def processes(engine: Requests, name: str, options: Sequence[str]) -> list[list[str]]:
    """Return the titles and the processes of ``top``."""
    query = {"ps_args": " ".join(options)} if options else None
    answer = engine.ask("GET", named("containers", name, "top"), query)
    return [answer["Titles"], *answer["Processes"]]


def published(engine: Requests, name: str) -> list[ShownPort]:
    """Return the ports of a container that are published."""
    settings = engine.ask("GET", named("containers", name, "json"))["NetworkSettings"]
    known: list[ShownPort] = []
    for key, places in sorted(as_object(settings.get("Ports")).items()):
        number, _, protocol = key.partition("/")
        known += [
            ShownPort(int(number), protocol, place["HostIp"], int(place["HostPort"]))
            for place in as_list(places)
        ]
    return known


def changes(engine: Requests, name: str) -> list[tuple[str, str]]:
    """Return the changes of a container's files: A, C or D, and a path."""
    listed = as_list(engine.ask("GET", named("containers", name, "changes")))
    return [("CAD"[one["Kind"]], one["Path"]) for one in listed]
