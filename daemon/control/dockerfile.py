"""The Dockerfile frontend for clients of the server: reads by their session, answers references."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pybuild.daemon.control.attrs import INPUT, LOCAL, Attrs, default_platform
from pybuild.daemon.control.definition import Definition, read_definition
from pybuild.daemon.control.lowered import gateway_config
from pybuild.daemon.control.results import CONFIG, PLATFORMS, Reference, Result, platforms_document
from pybuild.daemon.control.scope import Scope
from pybuild.daemon.control.status import Teller
from pybuild.daemon.control.subrequests import answer_subrequest, check_request
from pybuild.daemon.control.usedpaths import used_paths
from pybuild.daemon.control.wirerules import as_told
from pybuild.frontend.check import Check, Checked
from pybuild.frontend.lower import lower
from pybuild.frontend.lowering import ImageRequest, Lowered, LowerOptions, NeedImages, ResolvedImage
from pybuild.frontend.parse import parse_dockerfile
from pybuild.host import native_platform
from pybuild.model.errors import UserError
from pybuild.model.events import BuildWarning
from pybuild.model.ops import Vertex
from pybuild.model.platform import Platform


@dataclass(frozen=True, slots=True)
class Answer:
    """What the frontend gives; *lowered* by the id of the reference that it belongs to."""

    result: Result
    lowered: Mapping[str, Lowered]


async def solve_dockerfile(
    scope: Scope, attrs: Attrs, inputs: Mapping[str, Vertex], teller: Teller
) -> Answer:
    """Return one reference a platform, or the answer to a sub-request; nothing has run yet.

    Raises:
        UserError: with the lines it is about. EnvironmentFault: something is out of reach.
    """
    check_request(attrs.request)
    definition = await read_definition(scope, attrs, inputs)
    scope.files[definition.filename] = definition.data
    return await _answer(scope, attrs, definition, teller)


async def _answer(scope: Scope, attrs: Attrs, definition: Definition, teller: Teller) -> Answer:
    platforms = attrs.platforms or (native_platform(),)

    async def images(need: NeedImages) -> Mapping[ImageRequest, ResolvedImage]:
        return await scope.resolve(need, pull=attrs.pull)

    if attrs.request:
        options = _options(attrs, definition, default_platform(attrs))
        return Answer(await answer_subrequest(attrs, definition, options, images), {})
    lowered: list[Lowered] = []
    for platform in platforms:
        options = _options(attrs, definition, platform)
        known: dict[ImageRequest, ResolvedImage] = {}
        try:
            dockerfile = parse_dockerfile(definition.data, definition.filename)
            while isinstance(found := lower(dockerfile, options, known), NeedImages):
                known |= await images(found)
        except UserError:
            _warn_before_error(definition, options, known, teller)
            raise
        lowered.append(found)
    scope.trees.will_use(used_paths(*(one.result for one in lowered)))
    _warn(lowered[0].warnings, definition, teller)
    return _result(scope, attrs, platforms, lowered)


def _warn(warnings: Iterable[BuildWarning], definition: Definition, teller: Teller) -> None:
    for warning in warnings:
        teller.warn(as_told(warning), definition.vertex, definition.filename, definition.data)


def _warn_before_error(
    definition: Definition,
    options: LowerOptions,
    known: Mapping[ImageRequest, ResolvedImage],
    teller: Teller,
) -> None:
    """Tell what the checks have to say about a file that cannot be built."""
    checked = Check(definition.data, definition.filename, options).run(known)
    if isinstance(checked, Checked):
        _warn((finding.warning() for finding in checked.findings), definition, teller)


def _result(
    scope: Scope, attrs: Attrs, platforms: tuple[Platform, ...], lowered: list[Lowered]
) -> Answer:
    references = [Reference(one.result, scope.snapshot) for one in lowered]
    metadata = {PLATFORMS: platforms_document([one.platform for one in lowered])}
    by_id = {ref.id: one for ref, one in zip(references, lowered, strict=True)}
    if not attrs.multi_platform:
        metadata[CONFIG] = gateway_config(lowered[0])
        return Answer(Result(single=references[0], metadata=metadata), by_id)
    many: dict[str, Reference | None] = {}
    for platform, reference, one in zip(platforms, references, lowered, strict=True):
        metadata[f"{CONFIG}/{platform}"] = gateway_config(one)
        many[str(platform)] = reference
    metadata[PLATFORMS] = platforms_document(list(platforms))
    return Answer(Result(many=many, metadata=metadata), by_id)


def _options(attrs: Attrs, definition: Definition, platform: Platform) -> LowerOptions:
    named = {
        name: "." if value.startswith((LOCAL, INPUT)) else value
        for name, value in attrs.named_contexts.items()
    }
    return LowerOptions(
        target=attrs.target,
        build_args=attrs.build_args,
        target_platform=platform,
        build_platform=native_platform(),
        platform_explicit=bool(attrs.platforms),
        named_contexts=named,
        no_cache=attrs.no_cache,
        no_cache_filter=attrs.no_cache_filter,
        labels=attrs.labels,
        network=attrs.network,
        add_hosts=attrs.add_hosts,
        ulimits=attrs.ulimits,
        shm_size_bytes=attrs.shm_size_bytes,
        local_excludes=definition.excludes,
        context=definition.context,
        multi_platform=attrs.multi_platform,
    )
