"""Images brought from registries and to them, out of archives and into them [EP-11, EP-14, EP-15, ENG-38]."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress

from aiohttp import web

from pybuild.cache.content.imagelist import familiar_repository
from pybuild.daemon.rest.exchange import ApiExchange, Handler
from pybuild.daemon.rest.imageplatforms import platform_of_json
from pybuild.daemon.rest.importing import import_tree
from pybuild.daemon.rest.progresslines import ProgressLines, stream_work
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.daemon.rest.registries import login_of
from pybuild.engine.engine import Engine
from pybuild.engine.host import native_platform
from pybuild.engine.progress import internal_step
from pybuild.engine.pulling import pull_named
from pybuild.exporter.export import push as push_image
from pybuild.exporter.heldimages import held_image, held_under, load_images, name_in, tags_in
from pybuild.exporter.pushguard import stop_secrets
from pybuild.image.archive import NamedImage, write_docker_archive
from pybuild.image.manifest import resolve
from pybuild.model.descriptor import Descriptor
from pybuild.model.errors import UserError
from pybuild.model.events import Event, VertexProgress
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference
from pybuild.registry.client.credentials import StaticCredentials

_PIECE = 1 << 16


def engine_of(exchange: ApiExchange, host: str = "") -> AbstractAsyncContextManager[Engine]:
    """Give the engine as this client sees it, with its own login at *host*, else with ours."""
    login = login_of(exchange)
    return exchange.host.guest(StaticCredentials({host: login}) if login else None)


def reference_of(name: str, tag: str) -> Reference:
    """Return the reference of a repository and a tag or digest.

    Raises:
        ApiRefusal: they are none.
    """
    try:
        whole = f"{name}@{tag}" if ":" in tag else f"{name}:{tag}" if tag else name
        return Reference.parse(whole)
    except ValueError as error:
        raise ApiRefusal(400, "invalid reference format") from error


def tag_of(name: str, tag: str) -> Reference:
    """Return the reference that an image is to have.

    Raises:
        ApiRefusal: it is none, or one by a digest, which nobody gives.
    """
    reference = reference_of(name, tag)
    if reference.digest is not None:
        raise ApiRefusal(400, "refusing to create a tag with a digest reference")
    if reference.familiar.partition(":")[0] == "sha256":
        # Nobody could tell it from an image's id.
        raise ApiRefusal(400, "refusing to create an ambiguous tag using digest algorithm as name")
    return reference


async def create(exchange: ApiExchange) -> web.StreamResponse:
    """Pull an image [EP-11]."""
    query = exchange.query
    if query.text("fromSrc"):
        return await _import(exchange)
    reference = reference_of(query.text("fromImage"), query.text("tag"))
    platform = query.platform() or native_platform()
    begun = asyncio.Event()

    async def work(lines: ProgressLines) -> None:
        async with engine_of(exchange, reference.host) as engine:
            before = engine.store.images.resolve(str(reference))

            def show(event: Event) -> None:
                if isinstance(event, VertexProgress):
                    begun.set()
                    lines.transfer(event.id, event.current, event.total)

            lines.say(status=f"Pulling from {reference.path}", id=reference.tag or "")
            try:
                async with internal_step(f"pulling {reference}", show, engine.clock) as step:
                    manifest = await pull_named(engine, reference, platform, step)
            except UserError as error:
                raise _unknown(error, reference) from error
            begun.set()
            new = before is None or before.digest != manifest.digest
            lines.say(status=f"Digest: {manifest.digest}")
            words = "Downloaded newer image for" if new else "Image is up to date for"
            lines.say(status=f"Status: {words} {reference.familiar}")

    return await stream_work(exchange, work, begun=begun)


async def _import(exchange: ApiExchange) -> web.StreamResponse:
    query = exchange.query
    name = query.text("repo")
    reference = tag_of(name, query.text("tag")) if name else None

    async def work(lines: ProgressLines) -> None:
        async with engine_of(exchange) as engine:
            await import_tree(exchange, engine, reference, lines)

    return await stream_work(exchange, work)


def _unknown(error: UserError, reference: Reference) -> UserError | ApiRefusal:
    if "not found" in error.message or "neither the store nor" in error.message:
        return ApiRefusal(404, f"manifest for {reference.familiar} not found: manifest unknown")
    return error


async def push(exchange: ApiExchange) -> web.StreamResponse:
    """Push an image, or all tags of its repository [EP-14]."""
    tag = exchange.query.text("tag")
    reference = reference_of(exchange.call.name, tag)
    host = exchange.host
    is_one = bool(tag) or ":" in exchange.call.name.rpartition("/")[2]
    names = [reference] if is_one else await host.run(tags_in, host.engine, reference)
    if not names or host.store.images.resolve(str(names[0])) is None:
        raise ApiRefusal(
            404, f"An image does not exist locally with the tag: {familiar_repository(reference)}"
        )

    async def work(lines: ProgressLines) -> None:
        lines.say(status=f"The push refers to repository [{reference.repository}]")
        async with engine_of(exchange, reference.host) as engine:
            for name in names:
                await _push_one(engine, name, lines)

    return await stream_work(exchange, work)


async def _push_one(engine: Engine, name: Reference, lines: ProgressLines) -> None:
    def show(event: Event) -> None:
        if isinstance(event, VertexProgress) and event.total:
            short = event.id.rpartition(":")[2][:12]
            status = "Pushed" if event.done else "Pushing"
            detail = {} if event.done else {"current": event.current, "total": event.total}
            lines.say(status=status, progressDetail=detail, id=short)

    descriptor = held_under(engine, name)
    async with internal_step(f"pushing {name}", show, engine.clock) as step:
        await stop_secrets(engine, descriptor, step)
        await push_image(engine, descriptor, [name], step)
    engine.store.images.note("push", name.familiar, name.repository)
    lines.say(status=f"{name.tag}: digest: {descriptor.digest} size: {descriptor.size}")
    aux = {"Tag": name.tag, "Digest": str(descriptor.digest), "Size": descriptor.size}
    lines.say(progressDetail={}, aux=aux)


async def save(exchange: ApiExchange) -> web.StreamResponse:
    """Send images as an archive that ``docker load`` reads [EP-15]."""
    names = [exchange.call.name] if exchange.call.name else exchange.query.texts("names")
    names = [name for text in names for name in text.split(",")]
    if not names:
        raise ApiRefusal(400, "no images were named")
    platform = platform_of_json(exchange.query.text("platform")) or native_platform()
    async with engine_of(exchange) as engine:
        names = await exchange.host.run(_with_all_tags, engine, names)
        images = await exchange.host.run(_named_images, engine, names, platform)
        read_end, write_end = os.pipe()

        def work() -> None:
            with open(write_end, "wb") as file, suppress(BrokenPipeError):
                write_docker_archive(file, engine.store.blobs.path, images)

        writing = exchange.host.alone(work)
        try:
            response = await exchange.begin("application/x-tar")
            while piece := await exchange.host.run(os.read, read_end, _PIECE):
                await response.write(piece)
        finally:
            os.close(read_end)
            await writing
    await response.write_eof()
    return response


def _with_tags(engine: Engine, text: str) -> Sequence[str]:
    """Return the names that a text stands for: of a repository without its tag all there are."""
    try:
        named = Reference.parse(text)
    except ValueError:
        return [text]
    if named.digest is not None or named.familiar == text:
        return [text]
    start = f"{str(named).removesuffix(f':{named.tag}')}:"
    known = [name for all, _ in engine.store.images.list() for name in all]
    return sorted(name for name in known if name.startswith(start)) or [text]


def _with_all_tags(engine: Engine, names: Sequence[str]) -> list[str]:
    """Return names of images; a repository without a tag stands for all that it has."""
    known: list[str] = []
    for name in names:
        tags: list[Reference] = []
        if ":" not in name.rpartition("/")[2] and "@" not in name:
            with suppress(ValueError):
                tags = tags_in(engine, Reference.parse(name))
        known += [one.familiar for one in tags] or [name]
    return known


def _named_images(engine: Engine, names: Sequence[str], platform: Platform) -> list[NamedImage]:
    named: dict[Descriptor, list[str]] = {}
    for text in [one for given in names for one in _with_tags(engine, given)]:
        held = held_image(engine.store, text)
        image = resolve(held, lambda one: engine.store.blobs.read(one.digest), platform)[0]
        known = named.setdefault(image, [])
        if (name := name_in(engine.store, text)) and name not in known:
            known.append(name)
    return [NamedImage(image, known) for image, known in named.items()]


async def load(exchange: ApiExchange) -> web.StreamResponse:
    """Take the images of an archive into the store [EP-15]."""

    async def work(lines: ProgressLines) -> None:
        async with engine_of(exchange) as engine:
            scratch = engine.store.scratch("load")
            await exchange.host.run(os.mkdir, scratch)
            try:
                path = os.path.join(scratch, "archive")
                with await exchange.host.run(open, path, "xb") as file:
                    async for piece in exchange.pieces():
                        await exchange.host.run(file.write, piece)
                for line in await asyncio.to_thread(load_images, engine.store, path, scratch):
                    lines.say(stream=f"{line}\n")
            finally:
                await asyncio.to_thread(engine.store.discard, scratch)

    return await stream_work(exchange, work)


STREAMS: Mapping[str, Handler] = {
    "POST /images/create": create,
    "POST /images/{name}/push": push,
    "POST /images/load": load,
    "GET /images/get": save,
    "GET /images/{name}/get": save,
}
