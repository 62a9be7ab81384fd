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
import tempfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

from pybuild.builds.givencontexts import GivenContext, source_of
from pybuild.builds.hostvolumes import parse_volumes
from pybuild.builds.request import BuildRequest, Secret
from pybuild.builds.requestvalues import parse_allowed
from pybuild.builds.result import BuildResult
from pybuild.engine.settings import Settings, load_settings
from pybuild.executor.sources.sshoptions import parse_agents
from pybuild.exporter.attest.options import from_flags
from pybuild.exporter.output import Output, outputs_of, parse_output
from pybuild.frontend.lowering.interface import NeedsFrontend, Pull
from pybuild.model.amounts import parse_ages
from pybuild.model.errors import UsageError
from pybuild.model.events import Event
from pybuild.model.ops import StepSettings
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference
from pybuild.model.resources import Resources
from pybuild.remotecache.requested import caches_of

if TYPE_CHECKING:
    from pybuild.model.policy import Policies
    from pybuild.registry.client.credentials import Credential

__all__ = [
    "BuildResult",
    "Resources",
    "StepSettings",
    "build",
    "build_async",
    "build_many",
    "run_request",
]

OnEvent = Callable[[Event], None]
T = TypeVar("T")
_LISTS = (
    *("outputs", "platforms", "tags", "annotations", "attest", "cache", "cache_from", "cache_to"),
    *(
        "allow_secret",
        "no_cache_filter",
        "max_age",
        "secrets_in_key",
        "ssh",
        "volumes",
        "allow",
        "ca",
    ),
)


class BuildOptions(TypedDict, total=False):
    """The options of a build, as the command line has them.

    Attributes:
        dockerfile: a path, or the Dockerfile itself as bytes; default ``<context>/Dockerfile``.
        build_contexts: by name: a source as ``--build-context`` takes it, or files as *context* has them.
        outputs: as ``--output`` takes them; default: the image stays in the local store.
        cache: registries and directories to keep the cache in and start from, as ``--cache``.
        provenance, sbom, push, load: as the options of these names.
        git_modes: ``--modes=git``, which *cache* makes the default.
        source_policy_file: rules for sources; the environment's are the command line's alone.
        locked, lockfile: sources as a lock file has them; default: ``pybuild.lock`` of the context.
        logins: ``USER:PASSWORD`` by host of registries; they win over those of docker's files.
        ca, runtime, cache_max, config, root: as the options of these names.
        pull: ask registries for base images: True, False, ``"newer"`` or ``"never"``.
        secrets: values by id; they reach steps that mount them, and servers that `SEC-3` names.
        secrets_in_key: ids of those whose values count, as ``key=true`` has it.
        ssh: agents and keys, as ``--ssh`` takes them.
        annotations, attest, cache_from, cache_to, allow, allow_secret: as the options of these names.
        volumes: directories of this machine in every RUN, as ``--volume`` takes them.
        on_event: called with each `pybuild.model.events.Event`, on the engine's thread.
    """

    dockerfile: str | os.PathLike[str] | bytes | None
    target: str
    build_args: Mapping[str, str] | None
    build_contexts: Mapping[str, GivenContext] | None
    platforms: Sequence[str]
    tags: Sequence[str]
    outputs: Sequence[str | Output]
    annotations: Sequence[str]
    attest: Sequence[str]
    provenance: str | bool
    sbom: str | bool
    push: bool
    load: bool
    cache: Sequence[str]
    cache_from: Sequence[str]
    cache_to: Sequence[str]
    no_cache: bool
    no_cache_filter: Sequence[str]
    pull: Pull
    labels: Mapping[str, str] | None
    steps: StepSettings | None
    secrets: Mapping[str, bytes] | None
    secrets_in_key: Sequence[str]
    ssh: Sequence[str]
    volumes: Sequence[str]
    allow: Sequence[str]
    allow_secret: Sequence[str]
    source_policy_file: str | os.PathLike[str]
    logins: Mapping[str, str] | None
    ca: Sequence[str]
    runtime: str
    cache_max: str
    fail_on_miss: bool
    locked: bool
    lockfile: str | os.PathLike[str]
    max_age: Sequence[str]
    on_fail_output: str | os.PathLike[str]
    git_modes: bool
    ignore_from_git: bool
    config: str | os.PathLike[str]
    root: str | os.PathLike[str]
    on_event: OnEvent | None


def build(context: GivenContext = ".", **options: Unpack[BuildOptions]) -> BuildResult:
    """Build *context* and return when its outputs are written.

    Args:
        context: a directory, a git repository, or the URL of an archive or a Dockerfile; files by
            their paths, as bytes or text; or a tar archive as bytes.
        options: see `BuildOptions`.

    Raises:
        UserError: the Dockerfile, the context or an argument is wrong; `StepError` is one. *line* is
            that of the Dockerfile; *step* and *log* of a `StepError` are its name and last output.
        EnvironmentFault: the machine, the network or a registry failed.

    Inside a running event loop, use `build_async`.
    """
    return _run(build_async(context, **options))


async def build_async(context: GivenContext = ".", **options: Unpack[BuildOptions]) -> BuildResult:
    """The same as `build`, to be awaited; cancelling the task stops the build cleanly."""
    with tempfile.TemporaryDirectory(prefix="pybuild-context-") as scratch:
        request = _request(context, options, scratch)
        return await run_request(request, _settings(options), options.get("on_event"))


_OF_ALL = ("root", "config", "runtime", "cache_max", "ca", "on_event", "logins")


def build_many(
    builds: Mapping[str, Mapping[str, Any]],
    *,
    links: Mapping[str, Mapping[str, str]] | None = None,
    on_event: OnEvent | None = None,
    **settings: Any,
) -> dict[str, BuildResult]:
    """Make several builds in one engine: steps that they have in common run once.

    Args:
        builds: by name: the options of `build`, and ``context``.
        links: by the name of a build: for named contexts of its own the builds whose results they are.
        settings: *root*, *config*, *runtime*, *cache_max* and *ca*, which are the same for all.

    Raises:
        UserError: as `build`, of the first that fails; its message names the build. EnvironmentFault.
    """
    from pybuild.builds.manybuilds import make_builds
    from pybuild.builds.namedbuild import NamedBuild
    from pybuild.engine.engine import Engine

    options = BuildOptions(**settings)  # type: ignore[typeddict-item]
    requests: dict[str, NamedBuild] = {}
    with tempfile.TemporaryDirectory(prefix="pybuild-contexts-") as scratch:
        for name, given in builds.items():
            if ours := sorted(given.keys() & set(_OF_ALL)):
                raise UsageError(f"{name}: {', '.join(ours)} is for all builds together")
            own = {key: value for key, value in given.items() if key != "context"}
            folder = os.path.join(scratch, str(len(requests)))
            os.mkdir(folder)
            request = _request(given.get("context", "."), BuildOptions(**own), folder)  # type: ignore[typeddict-item]
            requests[name] = NamedBuild(request=request, links=(links or {}).get(name, {}))

        async def work() -> dict[str, BuildResult]:
            async with Engine(_settings(options)) as engine:
                return await make_builds(engine, requests, os.environ, on_event or _ignore)

        return _run(work())


def _ignore(event: Event) -> None:
    pass


def _request(context: GivenContext, options: BuildOptions, scratch: str) -> BuildRequest:
    _refuse_lone_strings(options)
    dockerfile = options.get("dockerfile")
    text = dockerfile if isinstance(dockerfile, bytes) else None
    path = "" if dockerfile is None or isinstance(dockerfile, bytes) else os.fspath(dockerfile)
    contexts = {
        name: source_of(f"named-{number}", value, scratch)
        for number, (name, value) in enumerate((options.get("build_contexts") or {}).items())
    }
    tags = tuple(_parsed(Reference.parse, t) for t in options.get("tags", ()))
    outputs, load = outputs_of(
        [o if isinstance(o, Output) else parse_output(o) for o in options.get("outputs", ())],
        tags,
        push=options.get("push", False),
        load=options.get("load", False),
        annotations=options.get("annotations", ()),
        allow_secrets=options.get("allow_secret", ()),
    )
    attest = options.get("attest", ())
    provenance, sbom = map(_flag_text, (options.get("provenance", ""), options.get("sbom", "")))
    source = source_of("context", context, scratch)
    return BuildRequest(
        context=source,
        dockerfile=path,
        dockerfile_text=text,
        target=options.get("target", ""),
        build_args=dict(options.get("build_args") or {}),
        named_contexts=contexts,
        platforms=tuple(_parsed(Platform.parse, text) for text in options.get("platforms", ())),
        tags=tags,
        outputs=tuple(outputs),
        load=load,
        attestations=(
            from_flags(attest, provenance, sbom) if attest or provenance or sbom else None
        ),
        policies=_policies(context, options),
        logins=_logins(options.get("logins") or {}),
        no_cache=options.get("no_cache", False),
        no_cache_filter=frozenset(name.lower() for name in options.get("no_cache_filter", ())),
        pull=options.get("pull", False),
        labels=dict(options.get("labels") or {}),
        steps=options.get("steps") or StepSettings(),
        secrets=_secrets(options.get("secrets") or {}, options.get("secrets_in_key", ())),
        ssh=parse_agents(options.get("ssh", ())),
        volumes=parse_volumes(options.get("volumes", ())),
        allow=parse_allowed(options.get("allow", ())),
        fail_on_miss=options.get("fail_on_miss", False),
        max_ages=parse_ages(options.get("max_age", ())),
        on_fail_output=os.fspath(options.get("on_fail_output", "")),
        git_modes=options.get("git_modes", bool(options.get("cache"))),
        ignore_from_git=options.get("ignore_from_git", False),
        **caches_of(
            source,
            options.get("cache", ()),
            to=options.get("cache_to", ()),
            sources=options.get("cache_from", ()),
        ),
    )


def _settings(options: BuildOptions) -> Settings:
    return load_settings(
        os.fspath(options.get("config", "")),
        os.fspath(options.get("root", "")),
        runtime=options.get("runtime", ""),
        cache_max=options.get("cache_max", ""),
        ca=options.get("ca", ()),
    )


def _flag_text(value: str | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else value


def _policies(context: GivenContext, options: BuildOptions) -> Policies | None:
    path = os.fspath(options.get("source_policy_file", ""))
    if options.get("locked", False):
        from pybuild.builds.lockfile import locked_policies

        place = context if isinstance(context, str | os.PathLike) else ""
        return locked_policies(os.fspath(place), os.fspath(options.get("lockfile", "")), path)
    if not path:
        return None
    from pybuild.buildkit.policyfile import read_policy_file

    return read_policy_file(path)


def _logins(given: Mapping[str, str]) -> dict[str, Credential]:
    if not given:
        return {}
    from pybuild.registry.client.credentials import Credential

    pairs = {host: text.partition(":") for host, text in given.items()}
    return {host: Credential(user, password) for host, (user, _, password) in pairs.items()}


async def run_request(
    request: BuildRequest, settings: Settings, on_event: OnEvent | None = None
) -> BuildResult:
    """Run one checked request; builds that go on in one event loop share what they have in common."""
    from pybuild.builds.build import build as build_with
    from pybuild.builds.build import load_result, with_load
    from pybuild.engine.shared import engine_for

    emit = on_event or _ignore
    async with engine_for(replace(settings, logins=request.logins)) as engine:
        try:
            result = await build_with(engine, with_load(request), emit)
        except NeedsFrontend:
            from pybuild.frontendbuild import build_on

            return await build_on(engine, request, emit)
        await load_result(engine, request, result, os.environ, emit)
        return result


def _run(work: Coroutine[Any, Any, T]) -> T:
    import uvloop

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return uvloop.run(work)
    work.close()
    raise UsageError("build() cannot run inside an event loop: await build_async() there")


def _refuse_lone_strings(options: Mapping[str, object]) -> None:
    """Raise where a list of strings is a string, which is a sequence too: of one-letter names."""
    for name in _LISTS:
        given = options.get(name)
        if isinstance(given, str):
            raise UsageError(f"{name}: expected a list of strings, got {given!r}")


def _parsed(parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _secrets(values: Mapping[str, bytes], in_key: Sequence[str]) -> dict[str, Secret]:
    for id in in_key:
        if id not in values:
            raise UsageError(f'secrets_in_key: there is no secret "{id}"')
    return {
        id: Secret(id=id, read=partial(bytes, value), in_key=id in in_key)
        for id, value in values.items()
    }
