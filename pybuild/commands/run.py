"""``pybuild unpack``: from an image to a runtime bundle [OUT, IMG-18]."""

from __future__ import annotations

import os

from pybuild.commandline.parser import Parsed
from pybuild.containers.image import find_image
from pybuild.engine.engine import Engine
from pybuild.engine.interruptible import run_interruptible
from pybuild.engine.settings import load_settings
from pybuild.exporter.bundle import write_bundle
from pybuild.model.errors import UsageError


def unpack(parsed: Parsed) -> int:
    """Write ``rootfs/`` and ``config.json`` into a new directory [OUT, IMG-18]."""
    name, directory = parsed.positionals
    if os.path.lexists(directory) and (not os.path.isdir(directory) or os.listdir(directory)):
        raise UsageError(f"{directory} is not empty")

    async def work() -> None:
        settings = load_settings(parsed.one("config"), parsed.one("root"))
        async with Engine(settings) as engine:
            image = await find_image(engine, name, None)
            snapshot = engine.layers().of_image(image.manifest.digest)
            await write_bundle(engine, snapshot, image.document, directory, parsed.flag("rootless"))

    run_interruptible(work())
    return 0
