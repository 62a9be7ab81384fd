"""``pybuild pull`` and ``pybuild push``."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace

from pybuild.arguments.environment import logins_of, platforms_of, use_authfile
from pybuild.commandline.parser import Parsed
from pybuild.engine.engine import Engine
from pybuild.engine.host import native_platform
from pybuild.engine.progress import InternalStep, internal_step
from pybuild.engine.pulling import pull_named
from pybuild.engine.settings import load_settings
from pybuild.exporter.export import push as push_image
from pybuild.exporter.heldimages import held_under, tags_in
from pybuild.exporter.pushguard import stop_secrets
from pybuild.model.errors import UsageError, UserError
from pybuild.model.reference import Reference, is_pinned, parse_reference
from pybuild.progress.display import make_display

Work = Callable[[Engine, Reference, InternalStep], Awaitable[str]]


def pull(parsed: Parsed) -> int:
    """Fetch an image whole: manifest, config and every layer; give it its name here."""
    platforms = platforms_of(parsed)
    if len(platforms) > 1:
        raise UsageError("pull takes one platform")
    platform = platforms[0] if platforms else native_platform()

    async def work(engine: Engine, reference: Reference, step: InternalStep) -> str:
        manifest = await pull_named(engine, reference, platform, step)
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
        names = tags_in(engine, reference) if every else [reference]
        if not names:
            raise UserError(
                f"no image of {reference.repository}", hints=["pybuild images lists what is there"]
            )
        lines: list[str] = []
        for name in names:
            descriptor = held_under(engine, name)
            await stop_secrets(engine, descriptor, step, parsed.many("allow-secret"))
            await push_image(engine, descriptor, [name], step)
            engine.store.images.note("push", name.familiar, name.repository)
            lines.append(f"{name}@{descriptor.digest}")
        return "\n".join(lines)

    return _run(parsed, "pushing", work)


def _run(parsed: Parsed, verb: str, work: Work) -> int:
    from pybuild.engine.interruptible import run_interruptible

    reference = parse_reference(parsed.positionals[0])
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
