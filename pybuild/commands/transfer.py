"""``pybuild pull`` and ``pybuild push``."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from pybuild.arguments.environment import logins_of, platforms_of, use_authfile
from pybuild.cache.content.imagelist import image_named
from pybuild.commandline.parser import Parsed
from pybuild.engine.engine import Engine
from pybuild.engine.host import native_platform
from pybuild.engine.progress import InternalStep, internal_step
from pybuild.engine.settings import load_settings
from pybuild.exporter.export import push as push_image
from pybuild.model.descriptor import Descriptor
from pybuild.model.errors import PybuildError, UsageError, UserError
from pybuild.model.reference import Reference, is_pinned
from pybuild.progress.display import make_display

Work = Callable[[Engine, Reference, InternalStep], Awaitable[str]]


def pull(parsed: Parsed) -> int:
    """Fetch an image whole: manifest, config and every layer; give it its name here."""
    platforms = platforms_of(parsed)
    if len(platforms) > 1:
        raise UsageError("pull takes one platform")
    platform = platforms[0] if platforms else native_platform()

    async def work(engine: Engine, reference: Reference, step: InternalStep) -> str:
        from pybuild.registry.client.pull import pull_image

        client = engine.client()
        try:
            image = await pull_image(
                client,
                engine.store.blobs,
                reference,
                platform,
                layers=True,
                progress=step.transfer,
            )
        except PybuildError as error:
            from pybuild.engine.unknownimages import worded

            tags = partial(client.tags, reference)
            stored = partial(_names, engine)
            fault = await worded(error, reference, stored, tags, client.settings_file)
            raise fault from error.__cause__
        manifest = image.manifest
        engine.images.resolutions.put(reference, platform, manifest)
        engine.images.describe(manifest, reference)
        await asyncio.to_thread(engine.store.images.tag, str(reference), manifest)
        engine.store.images.note("pull", reference.familiar, reference.repository)
        step.say(f"digest: {manifest.digest}")
        return str(reference)

    return _run(parsed, "pulling", work)


def push(parsed: Parsed) -> int:
    """Send an image of the store to the registry that its name names; with ``--all-tags`` each tag."""
    every = parsed.flag("all-tags")
    if every and is_pinned(parsed.positionals[0]):
        raise UsageError(
            "tag can't be used with --all-tags", hints=["name the repository without its tag"]
        )

    async def work(engine: Engine, reference: Reference, step: InternalStep) -> str:
        names = _tags_of(engine, reference) if every else [reference]
        if not names:
            raise UserError(
                f"no image of {reference.repository}", hints=["pybuild images lists what is there"]
            )
        lines: list[str] = []
        for name in names:
            descriptor = _held(engine, name)
            await push_image(engine, descriptor, [name], step)
            engine.store.images.note("push", name.familiar, name.repository)
            lines.append(f"{name}@{descriptor.digest}")
        return "\n".join(lines)

    return _run(parsed, "pushing", work)


def _held(engine: Engine, name: Reference) -> Descriptor:
    """Return the image of the store; where it is there under another name, say how it gets this one."""
    try:
        return image_named(engine.store, str(name), hold=True)
    except UserError as error:
        last = name.path.rpartition("/")[2]
        for other in map(Reference.parse, _names(engine)):
            if other.path.rpartition("/")[2] == last and other.repository != name.repository:
                hint = f"name it so first: pybuild tag {other.familiar} {name.familiar}"
                raise error.copy_with(hints=(hint,)) from None
        raise


def _names(engine: Engine) -> list[str]:
    return [name for names, _ in engine.store.images.list() for name in names]


def _tags_of(engine: Engine, repository: Reference) -> list[Reference]:
    listed = map(Reference.parse, _names(engine))
    return [one for one in listed if one.repository == repository.repository and one.tag]


def _run(parsed: Parsed, verb: str, work: Work) -> int:
    from pybuild.engine.interruptible import run_interruptible

    try:
        reference = Reference.parse(parsed.positionals[0])
    except ValueError as error:
        raise UsageError(str(error)) from error
    use_authfile(parsed)
    logins = logins_of(parsed, reference)
    kind = parsed.one("progress", os.environ.get("BUILDKIT_PROGRESS", "auto"))
    display = make_display("quiet" if parsed.flag("quiet") else kind, verb.capitalize())

    async def run() -> str:
        settings = replace(load_settings(parsed.one("config"), parsed.one("root")), logins=logins)
        async with (
            Engine(settings) as engine,
            internal_step(f"{verb} {reference}", display.show, engine.clock) as step,
        ):
            return await work(engine, reference, step)

    try:
        name = run_interruptible(run())
    finally:
        display.close()
    sys.stdout.write(f"{name}\n")
    return 0
