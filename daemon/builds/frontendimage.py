"""A frontend that is an image: its program drives the build over its standard input and output [6].

The bytes on these are one HTTP/2 connection, on which the program is the client of the gateway service.
It has no network, unless the image's label says that it is to have one.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Protocol

from pybuild.buildkit.llb.write import write
from pybuild.builds.lookups import Lookups, note_image
from pybuild.daemon.builds.frontendprocess import attend
from pybuild.daemon.builds.runningfrontend import DrivenBuild, RunningFrontend
from pybuild.daemon.frontend.attrs import (
    FRONTEND_CAPS,
    INPUT,
    UnsupportedCap,
    below,
    caps_of,
    with_slashes,
)
from pybuild.daemon.frontend.definition import input_context
from pybuild.daemon.frontend.llbload import load_definition
from pybuild.daemon.frontend.results import Result
from pybuild.engine.host import native_platform
from pybuild.engine.progress import internal_step
from pybuild.executor.steps.container import ProcessSettings
from pybuild.frontend.lowering.contexts import ImageContext, NamedContexts, VertexContext
from pybuild.frontend.lowering.interface import FrontendImage, ImageRequest
from pybuild.frontend.lowering.policies import ruled_image
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import PybuildError, UserError
from pybuild.model.ops import (
    ExecOp,
    FileOp,
    ImageSource,
    Mkfile,
    Mount,
    NetworkMode,
    OciLayoutSource,
    ScratchSource,
    StepSettings,
    Vertex,
    VertexMeta,
)
from pybuild.model.policy import Policies
from pybuild.model.reference import Reference
from pybuild.model.text import boolean
from pybuild.net.grpc.calls import Handler

_LABEL = "moby.buildkit.frontend."
_METADATA, _DEFINITION = "/run/config/buildkit/metadata", "frontend.bin"
_PRODUCT = "buildkit"


class ImageFrontendHost(DrivenBuild, Protocol):
    """A build, as far as frontends are run in it."""

    @property
    def session(self) -> str:
        """The id of the client's session."""
        ...

    async def gateway(self, frontend: RunningFrontend) -> tuple[Mapping[str, Handler], str]:
        """Return the gateway service for *frontend*, and this server as it is told of it, in JSON."""
        ...


@dataclass(frozen=True, slots=True)
class _Program:
    """The tree and the configuration of a frontend."""

    vertex: Vertex
    config: Mapping[str, Any]

    def label(self, name: str) -> str:
        labels: Mapping[str, str] = self.config.get("Labels") or {}
        return str(labels.get(_LABEL + name, ""))


async def run_frontend(
    build: ImageFrontendHost,
    image: FrontendImage,
    opts: Mapping[str, str],
    inputs: Mapping[str, Any],
    policies: Policies | None,
    lookups: Lookups,
    depth: int,
) -> Result:
    """Run *image* to its end, and return its result.

    Args:
        opts: all attributes of the request, which the program gets.
        depth: of the frontends that it is part of.

    Raises:
        PybuildError, RpcError: it cannot be run, or fails, or returns an error.
    """
    program = await _find(build, image, opts, inputs, policies)
    known = caps_of(program.label("caps"))
    requested = [*caps_of(opts.get(FRONTEND_CAPS, "")), *([f"{_LABEL}inputs"] if inputs else [])]
    for cap in requested:
        if cap not in known:
            raise UnsupportedCap(cap)
    frontend = RunningFrontend(build, inputs, lookups, depth + 1)
    handlers, workers = await build.gateway(frontend)
    settings = ProcessSettings(
        args=tuple(map(str, program.config.get("Entrypoint") or ("/run",))),
        env=(
            *map(str, program.config.get("Env") or ()),
            *_options(opts),
            f"BUILDKIT_SESSION_ID={build.session}",
            f"BUILDKIT_WORKERS={workers}",
            f"BUILDKIT_EXPORTEDPRODUCT={_PRODUCT}",
        ),
        cwd=str(program.config.get("WorkingDir") or "/"),
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(frontend.close)
        vertex, op = _container(build, program)
        results = [await build.scope.snapshot(one) for one in vertex.inputs]
        container = await stack.enter_async_context(build.scope.container(vertex, op, results))
        return await attend(image.source, container, settings, handlers, frontend)


def _options(opts: Mapping[str, str]) -> list[str]:
    """Return the variables that tell a frontend the attributes of its request.

    Raises:
        UserError: one cannot be in a variable.
    """
    for name, value in opts.items():
        if "\0" in name + value or "=" in name:
            raise UserError(f"attribute {name[:80]!r} cannot be handed to a frontend")
    sorted_opts = sorted(opts.items())
    return [
        f"BUILDKIT_FRONTEND_OPT_{n}={name}={value}" for n, (name, value) in enumerate(sorted_opts)
    ]


def _container(build: ImageFrontendHost, program: _Program) -> tuple[Vertex, ExecOp]:
    """Return a step that nobody runs: the tree and the mounts for the program."""
    definition = write(program.vertex).SerializeToString()
    written = Mkfile(path=f"/{_DEFINITION}", data=definition, mode=0o400, mtime=0)
    metadata = Vertex(FileOp(actions=(written,)), (Vertex(ScratchSource()),))
    has_network = boolean(program.label("network.none")) is False
    op = ExecOp(
        args=("-",),
        env=(),
        cwd="/",
        mounts=(Mount(target="/", input=0), Mount(target=_METADATA, input=1, readonly=True)),
        platform=native_platform(),
        settings=StepSettings(network=NetworkMode.DEFAULT if has_network else NetworkMode.NONE),
    )
    meta = VertexMeta(name="frontend")
    vertex = build.scope.owned(Vertex(op, (program.vertex, metadata), meta))
    assert isinstance(vertex.op, ExecOp)
    return vertex, vertex.op


async def _find(
    build: ImageFrontendHost,
    image: FrontendImage,
    opts: Mapping[str, str],
    inputs: Mapping[str, Any],
    policies: Policies | None,
) -> _Program:
    """Return the tree of a frontend: an image's, or that of the named context of this name.

    Raises:
        UserError: it is none, or refused.
    """
    here = native_platform()
    given = {name: with_slashes(value) for name, value in below(opts, "context:").items()}
    metadata = below(opts, "input-metadata:")
    trees: dict[str, VertexContext] = {}
    for name, value in given.items():
        if value.startswith(INPUT):
            key = value.removeprefix(INPUT)
            vertices: dict[str, Vertex] = {}
            if key in inputs:
                vertices[key] = await load_definition(inputs[key], build.scope, policies)
            trees[name] = input_context(name, key, metadata, vertices)
    context = NamedContexts(given, trees).find(image.source.partition("@")[0], here)
    match context:
        case None:
            request = ImageRequest(_reference(image.source), here)
        case VertexContext(vertex=vertex, config=config):
            return _Program(vertex, (config or {}).get("config") or {})
        case ImageContext(layout=layout) if layout:
            request = ImageRequest(_reference(image.source), here, layout)
        case ImageContext(reference=Reference() as reference):
            request = ImageRequest(reference, here)
        case _:
            raise UserError(f"frontend {image.source}: the context of this name is no image")
    return await _pulled(build, request, policies, pull=opts.get("image-resolve-mode") != "local")


def _reference(source: str) -> Reference:
    try:
        return Reference.parse(source)
    except ValueError as error:
        raise UserError(f"invalid frontend: {error}") from error


async def _pulled(
    build: ImageFrontendHost, request: ImageRequest, policies: Policies | None, *, pull: bool
) -> _Program:
    scope = build.scope
    if policies and not request.layout:
        ruling = partial(ruled_image, policies, request.reference, request.platform)
        request = ImageRequest(await scope.decided(ruling), request.platform)
    title = f"resolve image config for docker-image://{request.reference}"
    async with internal_step(title, scope.emit, scope.engine.clock):
        try:
            resolved = await scope.lookup(pull=pull).image(request)
        except PybuildError as error:
            words = f"cannot load the frontend: {error.message}"
            raise error.saying(words) from error.__cause__
    note_image(request, resolved.digest)
    name = f"docker-image://{request.reference.with_digest(resolved.digest)}"
    source = (
        OciLayoutSource(path=request.layout, digest=resolved.digest, platform=resolved.platform)
        if request.layout
        else ImageSource(
            digest=resolved.digest, reference=request.reference, platform=resolved.platform
        )
    )
    vertex = scope.owned(Vertex(source, meta=VertexMeta(name=name)))
    return _Program(vertex, resolved.config.get("config") or {})
