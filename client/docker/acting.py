"""Orders about one container, image, network or volume by its name, over Docker's API."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pybuild.client.docker.creation import CreationOptions, endpoint, limits_of
from pybuild.client.docker.requests import EngineRefusal, Requests, named
from pybuild.model.errors import UsageError
from pybuild.model.filtertext import filter_values
from pybuild.model.jsontext import as_list

Act = Callable[[Requests, CreationOptions, str], str | bool | None]
"""Done to the thing of that name: returns a text to show in place of the name, False to show none."""

_MISSING = 404
_OF_REMOVAL = (("force", "force"), ("v", "volumes"), ("link", "link"))


def _plain(verb: str) -> Act:
    def act(engine: Requests, options: CreationOptions, name: str) -> None:
        engine.ask("POST", named("containers", name, verb))

    return act


def _ending(verb: str) -> Act:
    def act(engine: Requests, options: CreationOptions, name: str) -> None:
        query: dict[str, str] = {}
        if text := options.one("timeout") or options.one("time"):
            try:
                query["t"] = str(int(float(text)))
            except (ValueError, OverflowError):
                raise UsageError(f'invalid time "{text}": expected seconds') from None
        if signal := options.one("signal"):
            query["signal"] = signal
        since = (1, 42) if signal else (1, 41)
        engine.ask("POST", named("containers", name, verb), query, since=since)

    return act


def _kill(engine: Requests, options: CreationOptions, name: str) -> None:
    engine.ask(
        "POST", named("containers", name, "kill"), {"signal": options.one("signal", "SIGKILL")}
    )


def _remove(engine: Requests, options: CreationOptions, name: str) -> bool | None:
    query = {name: options.flag(word) for name, word in _OF_REMOVAL if options.flag(word)}
    try:
        engine.ask("DELETE", named("containers", name), query)
    except EngineRefusal as error:
        if error.status == _MISSING and options.flag("force"):
            return False
        raise
    return None


def _wait(engine: Requests, options: CreationOptions, name: str) -> str:
    ended = engine.ask("POST", named("containers", name, "wait"), {"condition": "not-running"})
    return str(ended["StatusCode"])


def _update(engine: Requests, options: CreationOptions, name: str) -> None:
    body = limits_of(options)
    if text := options.one("restart"):
        policy, _, most = text.partition(":")
        body["RestartPolicy"] = {"Name": policy, "MaximumRetryCount": int(most or 0)}
    engine.ask("POST", named("containers", name, "update"), None, body)


def _remove_image(engine: Requests, options: CreationOptions, name: str) -> str | bool:
    try:
        steps = engine.ask("DELETE", named("images", name), {"force": options.flag("force")})
    except EngineRefusal as error:
        if error.status == _MISSING and options.flag("force"):
            return False
        raise
    return "\n".join(f"{key}: {value}" for step in steps for key, value in step.items())


def _remove_of(noun: str) -> Act:
    def act(engine: Requests, options: CreationOptions, name: str) -> bool | None:
        try:
            engine.ask("DELETE", named(noun, name))
        except EngineRefusal as error:
            if error.status == _MISSING and options.flag("force"):
                return False if noun == "networks" else None
            raise
        return None

    return act


ACTS: Mapping[str, Act] = {
    "kill": _kill,
    "network rm": _remove_of("networks"),
    "pause": _plain("pause"),
    "restart": _ending("restart"),
    "rm": _remove,
    "rmi": _remove_image,
    "start": _plain("start"),
    "stop": _ending("stop"),
    "unpause": _plain("unpause"),
    "update": _update,
    "volume rm": _remove_of("volumes"),
    "wait": _wait,
}
"""By the names of commands that take any number of names."""


def rename(engine: Requests, old: str, new: str) -> None:
    engine.ask("POST", named("containers", old, "rename"), {"name": new})


def tag(engine: Requests, source: str, repository: str, tag: str) -> None:
    engine.ask("POST", named("images", source, "tag"), {"repo": repository, "tag": tag})


def create_network(engine: Requests, options: CreationOptions, name: str) -> str:
    """Make a network, and return its id."""
    ranges = options.many("ip-range")
    gateways = options.many("gateway")
    pools: list[dict[str, Any]] = []
    for place, subnet in enumerate(options.many("subnet")):
        pool: dict[str, Any] = {"Subnet": subnet}
        if place < len(ranges):
            pool["IPRange"] = ranges[place]
        if place < len(gateways):
            pool["Gateway"] = gateways[place]
        pools.append(pool)
    reserved = pairs(options.many("aux-address"))
    if pools and reserved:
        pools[0]["AuxiliaryAddresses"] = reserved
    body = {
        "Name": name,
        "Driver": options.one("driver", "bridge"),
        "Internal": options.flag("internal"),
        "Attachable": options.flag("attachable"),
        "EnableIPv6": options.flag("ipv6"),
        "Options": pairs(options.many("opt")),
        "Labels": pairs(options.many("label")),
        "IPAM": {"Config": pools},
    }
    return str(engine.ask("POST", "/networks/create", None, body)["Id"])


def connect(engine: Requests, options: CreationOptions, network: str, container: str) -> None:
    place = endpoint(options.many("alias"), [options.one("ip"), options.one("ip6")])
    place["Links"] = options.many("link")
    engine.ask(
        "POST",
        named("networks", network, "connect"),
        None,
        {"Container": container, "EndpointConfig": place},
    )


def disconnect(engine: Requests, options: CreationOptions, network: str, container: str) -> None:
    body = {"Container": container, "Force": options.flag("force")}
    engine.ask("POST", named("networks", network, "disconnect"), None, body)


def create_volume(engine: Requests, options: CreationOptions, name: str) -> str:
    """Make a volume, and return its name."""
    body = {
        "Name": name,
        "Driver": options.one("driver"),
        "DriverOpts": pairs(options.many("opt")),
        "Labels": pairs(options.many("label")),
    }
    return str(engine.ask("POST", "/volumes/create", None, body)["Name"])


def prune(
    engine: Requests, noun: str, filters: Sequence[str], *, all: bool
) -> tuple[Sequence[str], int]:
    """Remove what nothing uses; return the names of it, and the bytes that it took."""
    known = filter_values(filters)
    if noun == "volumes" and all:
        known["all"] = ["1"]
    if noun == "images":
        known["dangling"] = ["false" if all else "true"]
    query = {"filters": json.dumps(known)} if known else None
    # An engine that is asked in an older version removes volumes that have names, too.
    since = (1, 42) if noun == "volumes" else (1, 41)
    answer = engine.ask("POST", f"/{noun}/prune", query, since=since)
    listed = as_list(answer.get(f"{noun.capitalize()}Deleted"))
    names = [one if isinstance(one, str) else ": ".join(next(iter(one.items()))) for one in listed]
    return names, int(answer.get("SpaceReclaimed", 0))


def pairs(texts: Sequence[str]) -> dict[str, str]:
    return {name: value for name, _, value in (text.partition("=") for text in texts)}
