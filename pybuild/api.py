"""The Python API: ``pybuild.build(…)`` and ``await pybuild.build_async(…)``.

```python
import pybuild

result = pybuild.build(".", tags=["app:dev"], build_args={"VERSION": "1.2"}, on_event=print)
print(result.image_id)
```
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from pybuild.arguments.ssh import parse_agents
from pybuild.builds.request import BuildRequest, Secret
from pybuild.builds.result import BuildResult
from pybuild.engine.settings import Settings, load_settings
from pybuild.exporter.output import Output, parse_output
from pybuild.model.errors import UsageError
from pybuild.model.events import Event
from pybuild.model.ops import StepSettings
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference
from pybuild.model.resources import Resources

__all__ = ["BuildResult", "Resources", "StepSettings", "build", "build_async", "run_request"]

OnEvent = Callable[[Event], None]
T = TypeVar("T")


def build(
    context: str | os.PathLike[str] = ".",
    *,
    dockerfile: str | os.PathLike[str] | bytes | None = None,
    target: str = "",
    build_args: Mapping[str, str] | None = None,
    build_contexts: Mapping[str, str] | None = None,
    platforms: Sequence[str] = (),
    tags: Sequence[str] = (),
    outputs: Sequence[str | Output] = (),
    no_cache: bool = False,
    pull: bool = False,
    labels: Mapping[str, str] | None = None,
    steps: StepSettings | None = None,
    secrets: Mapping[str, bytes] | None = None,
    ssh: Sequence[str] = (),
    root: str | os.PathLike[str] = "",
    on_event: OnEvent | None = None,
) -> BuildResult:
    """Build *context* and return when its outputs are written.

    Args:
        context: a directory, a git repository, or the URL of an archive or a Dockerfile.
        dockerfile: a path, or the Dockerfile itself as bytes; default ``<context>/Dockerfile``.
        outputs: as ``--output`` takes them; default: the image stays in the local store.
        steps: the settings of every RUN: network, hosts, limits …
        secrets: values by id; they reach steps that mount them, and servers that `SEC-3` names.
        ssh: agents and keys, as ``--ssh`` takes them.
        root: directory of the store; default as the command line's.
        on_event: called with each `pybuild.model.events.Event`, on the engine's thread.

    Raises:
        UserError: the Dockerfile, the context or an argument is wrong; `StepError` is one.
        EnvironmentFault: the machine, the network or a registry failed.

    Inside a running event loop, use `build_async`.
    """
    return _run(
        build_async(
            context,
            dockerfile=dockerfile,
            target=target,
            build_args=build_args,
            build_contexts=build_contexts,
            platforms=platforms,
            tags=tags,
            outputs=outputs,
            no_cache=no_cache,
            pull=pull,
            labels=labels,
            steps=steps,
            secrets=secrets,
            ssh=ssh,
            root=root,
            on_event=on_event,
        )
    )


async def build_async(
    context: str | os.PathLike[str] = ".",
    *,
    dockerfile: str | os.PathLike[str] | bytes | None = None,
    target: str = "",
    build_args: Mapping[str, str] | None = None,
    build_contexts: Mapping[str, str] | None = None,
    platforms: Sequence[str] = (),
    tags: Sequence[str] = (),
    outputs: Sequence[str | Output] = (),
    no_cache: bool = False,
    pull: bool = False,
    labels: Mapping[str, str] | None = None,
    steps: StepSettings | None = None,
    secrets: Mapping[str, bytes] | None = None,
    ssh: Sequence[str] = (),
    root: str | os.PathLike[str] = "",
    on_event: OnEvent | None = None,
) -> BuildResult:
    """The same as `build`, to be awaited; cancelling the task stops the build cleanly."""
    text = dockerfile if isinstance(dockerfile, bytes) else None
    path = "" if dockerfile is None or isinstance(dockerfile, bytes) else os.fspath(dockerfile)
    request = BuildRequest(
        context=os.fspath(context),
        dockerfile=path,
        dockerfile_text=text,
        target=target,
        build_args=dict(build_args or {}),
        named_contexts=dict(build_contexts or {}),
        platforms=tuple(_parsed(Platform.parse, text) for text in _several("platforms", platforms)),
        tags=tuple(_parsed(Reference.parse, text) for text in _several("tags", tags)),
        outputs=tuple(
            o if isinstance(o, Output) else parse_output(o) for o in _several("outputs", outputs)
        ),
        no_cache=no_cache,
        pull=pull,
        labels=dict(labels or {}),
        steps=steps or StepSettings(),
        secrets={name: _secret(name, value) for name, value in (secrets or {}).items()},
        ssh=parse_agents(_several("ssh", ssh)),
    )
    return await run_request(request, load_settings(root=os.fspath(root)), on_event)


async def run_request(
    request: BuildRequest, settings: Settings, on_event: OnEvent | None = None
) -> BuildResult:
    """Run one checked request; builds that go on in one event loop share what they have in common."""
    from pybuild.builds.build import build as build_with
    from pybuild.engine.shared import engine_for

    def ignore(event: Event) -> None:
        pass

    emit = on_event or ignore
    async with engine_for(settings) as engine:
        return await build_with(engine, request, emit)


def _run(work: Coroutine[Any, Any, BuildResult]) -> BuildResult:
    import uvloop

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return uvloop.run(work)
    work.close()
    raise UsageError("build() cannot run inside an event loop: await build_async() there")


def _several(name: str, given: Sequence[T]) -> Sequence[T]:
    """Refuse a lone string, which is a sequence too: of one-letter names."""
    if isinstance(given, str):
        raise UsageError(f"{name}: expected a list of strings, got {given!r}")
    return given


def _parsed(parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _secret(name: str, value: bytes) -> Secret:
    return Secret(id=name, read=lambda: value)
