"""Images pulled whole: manifest, config and every layer, under their names in the store."""

from __future__ import annotations

import asyncio
from functools import partial

from pybuild.engine.engine import Engine
from pybuild.engine.progress import InternalStep
from pybuild.model.descriptor import Descriptor
from pybuild.model.errors import PybuildError
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference


async def pull_named(
    engine: Engine, reference: Reference, platform: Platform, step: InternalStep
) -> Descriptor:
    """Fetch an image, give it its name here, and return its manifest.

    Raises:
        PybuildError: it cannot be had; where it is unknown, with the nearest name that is known.
    """
    from pybuild.registry.client.pull import pull_image

    client, images = engine.client(), engine.store.images
    try:
        image = await pull_image(
            client, engine.store.blobs, reference, platform, layers=True, progress=step.transfer
        )
    except PybuildError as error:
        from pybuild.engine.unknownimages import worded

        def stored() -> list[str]:
            return [name for names, _ in images.list() for name in names]

        tags = partial(client.tags, reference)
        fault = await worded(error, reference, stored, tags, client.settings_file)
        raise fault from error.__cause__
    manifest = image.manifest
    engine.images.resolutions.put(reference, platform, manifest)
    engine.images.describe(manifest, reference)
    await asyncio.to_thread(images.tag, str(reference), manifest)
    images.note("pull", reference.familiar, reference.repository)
    return manifest
