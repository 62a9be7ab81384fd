"""Names, histories and removals of images [EP-13, EP-15]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from pybuild.cache.content.imagelist import (
    image_facts,
    list_images,
    moment,
    names_of,
    unpacked_bytes,
)
from pybuild.cache.space.filters import parse_moment
from pybuild.cache.space.unusedimages import prune_images
from pybuild.cache.store import Store
from pybuild.containers.image import with_tag
from pybuild.containers.imageuse import conflict, users_of
from pybuild.daemon.rest.exchange import ApiExchange, Handler, RestHost, answer, nothing
from pybuild.daemon.rest.imageplatforms import image_for, platform_of_json
from pybuild.daemon.rest.images import find_image
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.daemon.rest.transfers import tag_of
from pybuild.engine.host import native_platform
from pybuild.image.manifest import parse_config, resolve
from pybuild.model.descriptor import Descriptor
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference
from pybuild.model.text import boolean


async def history(exchange: ApiExchange) -> web.StreamResponse:
    """List the steps of an image, the newest first."""
    platform = platform_of_json(exchange.query.text("platform"))
    return answer(await exchange.host.run(_history, exchange.host, exchange.call.name, platform))


def _history(host: RestHost, name: str, platform: Platform | None) -> list[dict[str, Any]]:
    store, image = host.store, find_image(host, name)
    chosen = image_for(store, image, platform, name)
    _, document = resolve(chosen, lambda one: store.blobs.read(one.digest), native_platform())
    config = parse_config(store.blobs.read(document.config.digest))
    layers = iter(document.layers)
    steps: list[dict[str, Any]] = config.get("history") or []
    shown: list[dict[str, Any]] = []
    for step in steps:
        layer = None if step.get("empty_layer") else next(layers, None)
        created = moment(str(step.get("created") or ""))
        shown.append(
            {
                "Id": "<missing>",
                "Created": max(0, int(created.timestamp())) if created else 0,
                "CreatedBy": str(step.get("created_by") or ""),
                "Tags": None,
                "Size": (unpacked_bytes(store, [layer]) or 0) if layer else 0,
                "Comment": str(step.get("comment") or ""),
            }
        )
    if shown:
        names = [Reference.parse(one).familiar for one in names_of(store, image)]
        shown[-1] |= {"Id": str(document.config.digest), "Tags": names or None}
    return shown[::-1]


async def tag(exchange: ApiExchange) -> web.StreamResponse:
    """Give an image one more name."""
    query, host = exchange.query, exchange.host
    reference = tag_of(query.text("repo"), query.text("tag"))
    async with host.guest() as engine:
        image = await host.run(engine.store.images.held, exchange.call.name, engine.store.lease)
        if image is None:
            raise ApiRefusal(404, f"No such image: {with_tag(exchange.call.name)}")
        await host.run(engine.store.images.tag, str(reference), image)
    return nothing(201)


async def remove(exchange: ApiExchange) -> web.StreamResponse:
    """Take a name away from an image, or remove the image."""
    host, query = exchange.host, exchange.query
    done = await host.run(_remove, host, exchange.call.name, force=query.flag("force"))
    return answer(done)


def _remove(host: RestHost, name: str, *, force: bool) -> list[dict[str, str]]:
    image = find_image(host, name)
    names = names_of(host.store, image)
    if same := _of_repository(names, name):
        for one in same[1:]:
            host.store.images.untag(one)
        return _remove(host, same[0], force=force)
    own = _own_name(names, name)
    short = _id(host, image).removeprefix("sha256:")[:12]
    is_last = not own or len(names) == 1
    users = users_of(host.containers, str(image.digest)) if is_last else []
    if text := conflict(name, short, users, own=bool(own), force=force):
        raise ApiRefusal(409, text)
    if own:
        host.store.images.untag(own)
        done = [{"Untagged": Reference.parse(own).familiar}]
        return [*done, {"Deleted": _id(host, image)}] if is_last else done
    if len(names) > 1 and not force:
        raise ApiRefusal(
            409,
            f"conflict: unable to delete {short} (must be forced) - image is referenced in multiple "
            "repositories",
        )
    id = _id(host, image)
    untagged = host.store.images.remove(str(image.digest))
    return [*({"Untagged": Reference.parse(one).familiar} for one in untagged), {"Deleted": id}]


def _of_repository(names: Sequence[str], text: str) -> list[str]:
    """Return the names of an image in the repository whose digest a text gives; none: it gives none."""
    try:
        reference = Reference.parse(text)
    except ValueError:
        return []
    if reference.digest is None or "@" not in text:
        return []
    start = f"{str(reference).partition('@')[0].removesuffix(f':{reference.tag}')}:"
    return [name for name in names if name.startswith(start)]


def _own_name(names: Sequence[str], text: str) -> str:
    """Return the name of an image that a text is; "": it is an id."""
    try:
        name = str(Reference.parse(text))
    except ValueError:
        return ""
    return name if name in names else ""


def _id(host: RestHost, image: Descriptor) -> str:
    return str(image_facts(host.store, "", image).image_id)


async def prune(exchange: ApiExchange) -> web.StreamResponse:
    """Remove the images that nothing uses."""
    host = exchange.host
    all, before = _choice(exchange.query.filters(), host.store.clock.now())
    done, freed = await host.run(_prune, host.store, all=all, before=before)
    return answer({"ImagesDeleted": done or None, "SpaceReclaimed": freed})


def _prune(store: Store, *, all: bool, before: float | None) -> tuple[list[dict[str, str]], int]:
    ids = {str(one.descriptor.digest): str(one.image_id) for one in list_images(store)}
    removed, pruned = prune_images(store, all=all, before=before)
    done: list[dict[str, str]] = []
    for image in removed:
        done += [{"Untagged": Reference.parse(one).familiar} for one in image.names]
        done.append({"Deleted": ids.get(image.digest, image.digest)})
    return done, pruned.freed


def _choice(filters: Sequence[str], now: float) -> tuple[bool, float | None]:
    """Return whether images with names go too, and the moment by which all must be made."""
    all, before = False, None
    for text in filters:
        name, _, value = text.partition("=")
        if name == "dangling" and (dangles := boolean(value.lower())) is not None:
            all = not dangles
        elif name == "until":
            before = parse_moment(value, now)
        else:
            raise ApiRefusal(400, f"invalid filter '{name}'")
    return all, before


HANDLERS: Mapping[str, Handler] = {
    "GET /images/{name}/history": history,
    "POST /images/{name}/tag": tag,
    "DELETE /images/{name}": remove,
    "POST /images/prune": prune,
}
