"""Requests about containers: made, listed, described, started, ended, removed [EP-20…23, EP-29]."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Mapping
from functools import partial
from typing import Any

from aiohttp import web

from pybuild.containers import connecting
from pybuild.containers.container import Container, stop_word
from pybuild.containers.containers import STOP_SECONDS
from pybuild.containers.defaults import restart_policy
from pybuild.containers.image import held_image
from pybuild.containers.inspecting import container_document
from pybuild.containers.linking import names_by_links
from pybuild.containers.listing import chosen, container_entry
from pybuild.containers.making import make_container
from pybuild.containers.signals import signal_number
from pybuild.containers.state import PAUSED, RESTARTING
from pybuild.daemon.rest.creating import limits_of, request_of
from pybuild.daemon.rest.exchange import ApiExchange, Handler, RestHost, answer, nothing
from pybuild.daemon.rest.fields import Fields
from pybuild.daemon.rest.lines import close_all
from pybuild.daemon.rest.query import Query
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.daemon.rest.waits import until_ended
from pybuild.model.errors import PybuildError, UserError
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference

_ID = re.compile(r"(sha256:)?[0-9a-f]{1,64}")
_LEGACY_NETWORK = (
    *("Gateway", "IPAddress", "IPPrefixLen", "IPv6Gateway", "GlobalIPv6Address"),
    *("GlobalIPv6PrefixLen", "MacAddress", "EndpointID"),
)


async def create(exchange: ApiExchange) -> web.StreamResponse:
    """Make a container [EP-21]."""
    host, body = exchange.host, await exchange.body(required=True)
    if not body:
        raise ApiRefusal(400, "config cannot be empty in order to create a container")
    name = exchange.query.text("name")
    platform = _platform_of_image(body.text("Image"), exchange.query)
    places = body.part("NetworkingConfig").members("EndpointsConfig")
    if len(places) > 1 and exchange.call.version < (1, 44):
        raise ApiRefusal(
            400,
            "Container cannot be created with multiple network endpoints: "
            + ", ".join(sorted(places)),
        )
    _see_name(body.text("Image"))
    await host.run(_see_others, host, body.part("HostConfig"))
    async with host.guest() as engine:
        image = await host.run(held_image, engine.store, body.text("Image"), platform)
        texts = await host.run(
            lambda: {given: engine.resolv_conf(host_network=given) for given in (True, False)}
        )
        own_ipc = "shareable" if exchange.call.version < (1, 40) else "private"
        wish = await host.run(request_of, body, name, image.config, texts, own_ipc)
        container = await make_container(
            engine, wish.config, image, wish.mounts, checks_networks=False
        )
    return answer({"Id": container.config.id, "Warnings": list(wish.warnings)}, 201)


def _see_name(image: str) -> None:
    """Refuse what is neither an image's name nor an id."""
    if image and not _ID.fullmatch(image):
        try:
            Reference.parse(image)
        except ValueError as error:
            raise ApiRefusal(400, "invalid reference format") from error


def _see_others(host: RestHost, wish: Fields) -> None:
    """Refuse a container that refers to one that is not there: that is not the one that is looked for."""
    for field, words in (("VolumesFrom", ""), ("Links", "could not get container for {0}: ")):
        for text in wish.texts(field) or ():
            name = text.partition(":")[0]
            try:
                host.containers.find(name)
            except UserError:
                message = f"{words.format(name)}No such container: {name}"
                raise ApiRefusal(400, message) from None


def _platform_of_image(image: str, query: Query) -> Platform | None:
    """Return the platform whose variant of an image is wanted; of one that is unknown there is none."""
    try:
        return query.platform()
    except ApiRefusal as refusal:
        raise ApiRefusal(404, f"image {image[:300]} has no such platform: {refusal}") from refusal


async def listing(exchange: ApiExchange) -> web.StreamResponse:
    """List containers [EP-20]."""
    query = exchange.query
    limit, filters = query.number("limit"), query.filters()
    shows_all, sized = query.flag("all"), query.flag("size")
    entries = await exchange.host.run(
        entries_of, exchange.host, filters, limit, shows_all=shows_all, sized=sized
    )
    return answer(entries)


def entries_of(
    host: RestHost, filters: list[str], limit: int, *, shows_all: bool, sized: bool
) -> list[dict[str, Any]]:
    """Return the entries of docker's list of containers."""
    containers, store = host.containers, host.store
    entries: list[dict[str, Any]] = []
    by_links = names_by_links(containers.list())
    for one, state, places in chosen(containers, store, filters, all=shows_all, last=limit):
        try:
            sizes = containers.sizes(one) if sized else None
        except FileNotFoundError:
            continue  # it was removed
        entries.append(
            container_entry(store, one, state, places, sizes, by_links.get(one.config.id, ()))
        )
    return entries


async def inspect(exchange: ApiExchange) -> web.StreamResponse:
    """Describe a container [EP-22]."""
    container = await exchange.container()
    sized = exchange.query.flag("size")
    document = await exchange.host.run(
        container_document, exchange.host.store, container, sized=sized
    )
    document["ExecIDs"] = exchange.host.processes.ids(container.config.id) or None
    _fit_networks(document, container)
    return answer(document)


def _fit_networks(document: dict[str, Any], container: Container) -> None:
    """Add what clients of these versions look for at the top of NetworkSettings [ENG-17]."""
    settings = document["NetworkSettings"]
    first: Mapping[str, Any] = settings["Networks"].get(container.config.network, {})
    on_bridge = container.config.network == "bridge"
    numbers = ("IPPrefixLen", "GlobalIPv6PrefixLen")
    for name in _LEGACY_NETWORK:
        zero: int | str = 0 if name in numbers else ""
        settings[name] = first.get(name, zero) if on_bridge else zero


async def start(exchange: ApiExchange) -> web.StreamResponse:
    """Start a container [EP-23]."""
    if (exchange.request.content_length or 0) > 7:
        raise ApiRefusal(400, "starting a container with a body is not supported")
    container = await exchange.container()
    state = await exchange.host.run(container.state)
    if state.status == PAUSED:
        raise ApiRefusal(409, "cannot start a paused container, try unpause instead")
    if state.lives:
        return nothing(304)
    await start_it(exchange.host, container)
    return nothing()


async def start_it(host: RestHost, container: Container) -> None:
    """Start a container, with those who wait for its first byte.

    Raises:
        PybuildError: it cannot be started.
    """
    lines = host.waiting.take(container.config.id)
    if container.config.auto_remove:
        lines.append(host.removing(container))
    try:
        await host.run(host.containers.start, container, attached=lines)
    except PybuildError:
        if container.config.auto_remove:
            await _remove_unstarted(host, container)
        raise
    finally:
        close_all(lines)


async def _remove_unstarted(host: RestHost, container: Container) -> None:
    try:
        await host.run(host.containers.remove, container, force=True, volumes=True)
    except UserError:
        return  # somebody else was faster


async def stop(exchange: ApiExchange) -> web.StreamResponse:
    """End a container: a signal, and SIGKILL when the time is up [CTR-31]."""
    container = await exchange.container()
    if not (await exchange.host.run(container.state)).lives:
        return nothing(304)
    await end_it(exchange, container)
    return nothing()


async def restart(exchange: ApiExchange) -> web.StreamResponse:
    """End a container that runs, and start it [CTR-35]."""
    container = await exchange.container()
    if (await exchange.host.run(container.state)).lives:
        await end_it(exchange, container, returns=True)
    await start_it(exchange.host, container)
    await exchange.host.run(container.note, "restart")
    return nothing()


async def end_it(exchange: ApiExchange, container: Container, *, returns: bool = False) -> None:
    """End a container as the query says, or its own config; return when it has ended.

    Args:
        returns: it is started again then.
    """
    query, config, host = exchange.query, container.config, exchange.host
    own = STOP_SECONDS if config.stop_seconds is None else config.stop_seconds
    seconds = float(query.number("t")) if query.text("t") else own
    given = query.text("signal")
    number = signal_number(given or config.stop_signal or "SIGTERM")
    waiting = asyncio.ensure_future(until_ended(host, container))
    try:
        if await host.run(container.send, stop_word(returns), number, seconds):
            await waiting
            await host.run(container.wait_gone)
    finally:
        waiting.cancel()


async def kill(exchange: ApiExchange) -> web.StreamResponse:
    """Send a signal to a container [CTR-32]."""
    number = signal_number(exchange.query.text("signal") or "SIGKILL")
    container, host = await exchange.container(), exchange.host
    waiting = asyncio.ensure_future(until_ended(host, container))
    try:
        await _demand(host, container, "kill", number)
        if number == signal.SIGKILL:
            await waiting
            await host.run(container.wait_gone)
    finally:
        waiting.cancel()
    return nothing()


async def pause(exchange: ApiExchange) -> web.StreamResponse:
    """Let a container stand still."""
    return await _ask(exchange, "pause")


async def unpause(exchange: ApiExchange) -> web.StreamResponse:
    """Let a container go on."""
    return await _ask(exchange, "unpause")


async def _ask(exchange: ApiExchange, word: str) -> web.StreamResponse:
    await _demand(exchange.host, await exchange.container(), word)
    return nothing()


async def _demand(host: RestHost, container: Container, *words: Any) -> None:
    """Ask the monitor of a container for something.

    Raises:
        ApiRefusal: it does not run, in docker's words, which have its id.
    """
    try:
        await host.run(container.ask, *words)
    except UserError as error:
        if error.message == f"container {container.config.name} is not running":
            raise ApiRefusal(409, f"Container {container.config.id} is not running") from error
        raise


async def rename(exchange: ApiExchange) -> web.StreamResponse:
    """Give a container another name [CTR-61]."""
    container = await exchange.container()
    name = exchange.query.text("name")
    if not name.removeprefix("/"):
        raise ApiRefusal(400, "Neither old nor new names may be empty")
    await exchange.host.run(connecting.rename, exchange.host.containers, container, name)
    return nothing()


async def update(exchange: ApiExchange) -> web.StreamResponse:
    """Give a container other limits, or another restart policy [CTR-65]."""
    body = await exchange.body()
    container = await exchange.container()
    given = body.part("RestartPolicy")
    most = given.number("MaximumRetryCount")
    policy = restart_policy(given.text("Name"), most or None) if given.text("Name") else None
    limits = limits_of(body, is_update=True)
    change = partial(exchange.host.containers.update, has_cpus=body.number("NanoCpus") > 0)
    warnings = await exchange.host.run(change, container, limits, policy)
    return answer({"Warnings": list(warnings) or None})


async def remove(exchange: ApiExchange) -> web.StreamResponse:
    """Remove a container [CTR-39]."""
    host = exchange.host
    if exchange.query.flag("link"):
        await host.run(connecting.unlink, host.containers, exchange.call.name)
        return nothing()
    container = await exchange.container()
    force, volumes = exchange.query.flag("force"), exchange.query.flag("v")
    state = await host.run(container.state)
    if state.status == RESTARTING and not force:
        raise ApiRefusal(
            409,
            f'cannot remove container "/{container.config.name}": container is restarting: stop the '
            "container before removing or force remove",
        )
    await host.run(host.containers.remove, container, force=force, volumes=volumes)
    host.waiting.give_up(container.config.id)
    host.processes.forget(container.config.id)
    return nothing()


HANDLERS: Mapping[str, Handler] = {
    "POST /containers/create": create,
    "GET /containers/json": listing,
    "GET /containers/{name}/json": inspect,
    "POST /containers/{name}/start": start,
    "POST /containers/{name}/stop": stop,
    "POST /containers/{name}/restart": restart,
    "POST /containers/{name}/kill": kill,
    "POST /containers/{name}/pause": pause,
    "POST /containers/{name}/unpause": unpause,
    "POST /containers/{name}/rename": rename,
    "POST /containers/{name}/update": update,
    "DELETE /containers/{name}": remove,
}
