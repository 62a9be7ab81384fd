"""Images made of file trees, and of other images with lines of a Dockerfile [EP-11, EP-16]."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from pybuild.builds.build import build
from pybuild.builds.imageimport import import_image
from pybuild.builds.request import BuildRequest
from pybuild.daemon.rest.exchange import ApiExchange
from pybuild.daemon.rest.progresslines import ProgressLines
from pybuild.engine.engine import Engine
from pybuild.exporter.heldimages import from_source
from pybuild.model.events import Event
from pybuild.model.reference import Reference


def _unseen(event: Event) -> None:
    """Show nothing of a build that is none to its client."""


async def changed(
    engine: Engine, image_id: str, changes: Sequence[str], reference: Reference | None
) -> str:
    """Make an image of another one with lines of a Dockerfile; return its ID.

    Raises:
        UserError: one of the lines is wrong.
    """
    image, contexts = await asyncio.to_thread(from_source, engine.store, image_id)
    scratch = engine.store.scratch("context")
    await asyncio.to_thread(os.mkdir, scratch)
    try:
        request = BuildRequest(
            context=scratch,
            dockerfile_text="".join(f"{line}\n" for line in (f"FROM {image}", *changes)).encode(),
            named_contexts=contexts,
            tags=() if reference is None else (reference,),
        )
        return str((await build(engine, request, _unseen)).image_id)
    finally:
        await asyncio.to_thread(engine.store.discard, scratch)


async def import_tree(
    exchange: ApiExchange, engine: Engine, reference: Reference | None, lines: ProgressLines
) -> None:
    """Make an image of the body, a tar of a file tree, and say its ID.

    Raises:
        ApiRefusal, UserError: there can be none.
    """
    query, loop = exchange.query, asyncio.get_running_loop()
    source = query.text("fromSrc")
    if source != "-" and "://" not in source:
        source = f"http://{source}"
    platform = query.platform()
    scratch = engine.store.scratch("import")
    await exchange.host.run(os.mkdir, scratch)

    def build_here(request: BuildRequest) -> str:
        work = asyncio.run_coroutine_threadsafe(build(engine, request, _unseen), loop)
        return str(work.result().image_id)

    try:
        path = os.path.join(scratch, "tree")
        if source == "-":
            source = path
            with await exchange.host.run(open, path, "xb") as file:
                async for piece in exchange.pieces():
                    await exchange.host.run(file.write, piece)
        changes = [line for text in query.texts("changes") for line in text.splitlines()]
        tags = [] if reference is None else [reference]
        image_id = await asyncio.to_thread(
            import_image,
            source,
            changes,
            build_here,
            platforms=[] if platform is None else [platform],
            tags=tags,
        )
        name = image_id if reference is None else reference.familiar
        await exchange.host.run(engine.store.images.note, "import", image_id, name)
        lines.say(status=image_id)
    finally:
        await asyncio.to_thread(engine.store.discard, scratch)
