"""Images made of containers [EP-16, CTR-90]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from pybuild.builds.imageimport import checked_change
from pybuild.containers.committing import commit_container, reconfigured
from pybuild.daemon.rest.creating import health_of
from pybuild.daemon.rest.exchange import ApiExchange, Handler, answer
from pybuild.daemon.rest.fields import Fields
from pybuild.daemon.rest.importing import changed
from pybuild.daemon.rest.transfers import tag_of


def committed_config(body: Fields) -> dict[str, Any]:
    """Return the fields of a Config that an image takes from its body [CTR-90].

    Raises:
        ApiRefusal: one is of another kind.
    """
    given: dict[str, Any] = {}
    for name in ("User", "WorkingDir", "StopSignal"):
        given[name] = body.text(name)
    for name in ("Env", "Cmd", "Entrypoint", "Shell", "OnBuild"):
        given[name] = list(body.texts(name) or ())
    given["Labels"] = body.pairs("Labels")
    for name in ("ExposedPorts", "Volumes"):
        given[name] = {key: {} for key in body.members(name)}
    health = health_of(body.part("Healthcheck"))
    given["Healthcheck"] = {key: value for key, value in health.items() if value}
    return {name: value for name, value in given.items() if value}


async def commit(exchange: ApiExchange) -> web.StreamResponse:
    """Make an image of what a container is now [CTR-90]."""
    query, host = exchange.query, exchange.host
    changes = [
        checked_change(line) for text in query.texts("changes") for line in text.splitlines()
    ]
    given = committed_config(await exchange.body())
    container = await host.run(host.containers.find, query.text("container"))
    name = query.text("repo")
    reference = tag_of(name, query.text("tag")) if name else None
    async with host.guest() as engine:
        image = await commit_container(
            engine,
            container,
            comment=query.text("comment"),
            author=query.text("author"),
            given=given,
        )
        if changes:
            await host.run(engine.store.images.add_dangling, image.manifest)
            other = await changed(engine, str(image.config.digest), changes, None)
            image = await host.run(reconfigured, engine.store, image, other)
        if reference is None:
            await host.run(engine.store.images.add_dangling, image.manifest)
        else:
            await host.run(engine.store.images.tag, str(reference), image.manifest)
        image_id = str(image.config.digest)
    about = {"comment": query.text("comment"), "imageID": image_id}
    about["imageRef"] = "" if reference is None else str(reference)
    await host.run(container.note, "commit", about)
    return answer({"Id": image_id}, 201)


HANDLERS: Mapping[str, Handler] = {"POST /commit": commit}
