"""Definitions of clients as our vertices, with their images found and their directories named [9]."""

from __future__ import annotations

import asyncio
from functools import partial

from pybuild.buildkit.llb.queries import (
    Answer,
    Answers,
    BlobQuery,
    BundleQuery,
    ImageQuery,
    LayoutQuery,
    Query,
    UploadQuery,
)
from pybuild.buildkit.llb.read import NeedAnswers, read_with
from pybuild.buildkit.pb.ops import Definition
from pybuild.buildkit.policies import ruled_source
from pybuild.builds.verdicts import decided_of
from pybuild.daemon.builds.scope import Scope
from pybuild.engine.host import native_platform
from pybuild.frontend.lowering.interface import ImageRequest
from pybuild.model.errors import PybuildError, UserError
from pybuild.model.ops import ImageSource, OciLayoutSource, Vertex
from pybuild.model.policy import Policies
from pybuild.model.span import Span


async def load_definition(
    definition: Definition, scope: Scope, policies: Policies | None = None
) -> Vertex:
    """Return the vertex that *definition* results in.

    Args:
        policies: judge its sources, if others than those of the whole build do.

    Raises:
        UserError: it is none, asks for what is not there, or for what a policy refuses.
    """

    async def resolve(need: NeedAnswers) -> Answers:
        async with asyncio.TaskGroup() as group:
            tasks = {
                query: group.create_task(_answer(scope, query, spans))
                for query, spans in zip(need.queries, need.spans, strict=True)
            }
        return {query: task.result() for query, task in tasks.items()}

    reading = partial(
        read_with,
        definition,
        platform=native_platform(),
        resolve=resolve,
        in_thread=scope.in_thread,
        call=scope.trees.name_of,
        rule=partial(ruled_source, policies=policies or scope.policies),
    )
    loaded = await decided_of(reading, scope.decide)
    scope.files.update(loaded.files)
    scope.infos.update(loaded.infos)
    scope.actions |= loaded.actions
    scope.received.update((str(id), str(one.digest)) for id, one in loaded.vertices.items())
    return await scope.in_thread(partial(scope.owned, loaded.result))


async def _answer(scope: Scope, query: Query, spans: tuple[Span, ...]) -> Answer:
    try:
        match query:
            case ImageQuery(reference=reference, platform=platform):
                request = ImageRequest(reference, platform)
                image = await scope.engine.images.resolve(request, pull=query.mode != "local")
                if query.checksum is not None and query.checksum != image.digest:
                    raise UserError(
                        f"image digest {image.digest} for {reference} does not match "
                        f"expected checksum {query.checksum}"
                    )
                return ImageSource(
                    digest=image.digest,
                    reference=reference,
                    platform=platform,
                    layers=query.layers,
                )
            case LayoutQuery(reference=reference, platform=platform):
                name = query.store or reference.path
                digest = await scope.layouts.image(name, reference.digest, platform)
                return OciLayoutSource(path=name, digest=digest.digest, platform=platform)
            case BlobQuery():
                return await scope.adopt_blob(query)
            case BundleQuery(source=source, blob=blob):
                await scope.adopt_blob(blob)
                return source
            case UploadQuery(id=id, filename=filename):
                return await scope.adopt_upload(id, filename)
    except PybuildError as error:
        raise error.with_spans(spans) from error.__cause__
