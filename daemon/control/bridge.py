"""The handlers of `LLBBridge`, by which a client's own frontend drives a parked build [6]."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from pybuild.buildkit.llb.caps import LLB_CAPS
from pybuild.buildkit.pb import gateway as pb
from pybuild.buildkit.pb.apicaps import APICap
from pybuild.builds.lookups import noting
from pybuild.daemon.builds.build import Build
from pybuild.daemon.control.server import BuildServer
from pybuild.daemon.frontend.lazytree import LazyTree
from pybuild.daemon.frontend.parsing import parse
from pybuild.daemon.frontend.reading import directories_of, read_dir, read_file, stat_file
from pybuild.daemon.frontend.results import read_result
from pybuild.daemon.frontend.sourcemeta import resolve_image_config, resolve_source_meta
from pybuild.net.grpc.calls import Handler, IncomingCall, unary
from pybuild.net.grpc.status import Code, RpcError

_SERVICE = "/moby.buildkit.v1.frontend.LLBBridge/"
BUILD_ID = "buildkit-controlapi-buildid"
_Answer = Callable[[Build, bytes], Awaitable[bytes]]


class BridgeService:
    """`LLBBridge`, for the builds of one server."""

    def __init__(self, server: BuildServer) -> None:
        self._server = server

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by method."""
        methods: dict[str, _Answer] = {
            "Ping": self._ping,
            "Solve": self._solve,
            "Return": self._return,
            "Inputs": self._inputs,
            "ReadFile": self._read_file,
            "ReadDir": self._read_dir,
            "StatFile": self._stat_file,
            "Evaluate": self._evaluate,
            "Warn": self._warn,
            "ResolveImageConfig": self._resolve_image_config,
            "ResolveSourceMeta": self._resolve_source_meta,
            "NewContainer": self._new_container,
            "ReleaseContainer": self._release_container,
            "ReadFileContainer": self._read_file_container,
            "ReadDirContainer": self._read_dir_container,
            "StatFileContainer": self._stat_file_container,
        }
        handlers: dict[str, Handler] = {
            _SERVICE + name: unary(self._for_build(do)) for name, do in methods.items()
        }
        return handlers | {f"{_SERVICE}ExecProcess": self._exec_process}

    async def _build(self, call: IncomingCall) -> Build:
        ref = call.metadata.get(BUILD_ID)
        if not ref:
            raise RpcError(Code.INVALID_ARGUMENT, "no buildid found in context")
        build = await self._server.tenant(call.peer.owner).build(ref)
        await build.wait_ready()
        return build

    def _for_build(self, answer: _Answer) -> Callable[[bytes, IncomingCall], Awaitable[bytes]]:
        async def handle(data: bytes, call: IncomingCall) -> bytes:
            build = await self._build(call)
            try:
                return await answer(build, data)
            except Exception as error:
                raise build.error(error) from error

        return handle

    async def _ping(self, build: Build, data: bytes) -> bytes:
        return pb.PongResponse(
            FrontendAPICaps=[APICap(ID=name, Enabled=True) for name in FRONTEND_CAPS],
            LLBCaps=[APICap(ID=name, Enabled=True) for name in sorted((*LLB_CAPS, *SERVER_CAPS))],
            Workers=[await self._server.worker()],
        ).SerializeToString()

    async def _solve(self, build: Build, data: bytes) -> bytes:
        request = parse(pb.SolveRequest(), data)
        await build.scope.imports.add((one.Type, dict(one.Attrs)) for one in request.CacheImports)
        result = await build.solve(
            request.Frontend,
            dict(request.FrontendOpt),
            request.Definition if request.HasField("Definition") else None,
            dict(request.FrontendInputs),
            request.SourcePolicies,
        )
        if request.Evaluate:
            async with asyncio.TaskGroup() as group:
                for _, reference in result.each():
                    if reference is not None:
                        group.create_task(reference.snapshot())
        return pb.SolveResponse(result=result.message()).SerializeToString()

    async def _return(self, build: Build, data: bytes) -> bytes:
        request = parse(pb.ReturnRequest(), data)
        if build.returned.done():
            raise RpcError(Code.UNKNOWN, "the build has its result")
        if request.HasField("error") and request.error.code:
            status = request.error
            code = Code(status.code) if status.code in Code.__members__.values() else Code.UNKNOWN
            build.returned.set_exception(RpcError(code, status.message, status.SerializeToString()))
        else:
            build.returned.set_result(read_result(request.result, build.references))
        return pb.ReturnResponse().SerializeToString()

    async def _inputs(self, build: Build, data: bytes) -> bytes:
        message = pb.InputsResponse()
        for name, definition in build.request.FrontendInputs.items():
            message.Definitions[name].CopyFrom(definition)
        return message.SerializeToString()

    # --- trees ------------------------------------------------------------------------------------

    def _reference(self, build: Build, id: str) -> LazyTree:
        if id not in build.references:
            raise RpcError(Code.UNKNOWN, f"no such ref: {id}")
        return build.references[id]

    async def _directories(self, build: Build, id: str) -> Sequence[str]:
        return await directories_of(build.scope, self._reference(build, id))

    async def _read_file(self, build: Build, data: bytes) -> bytes:
        request = parse(pb.ReadFileRequest(), data)
        return await _file(build, request, await self._directories(build, request.Ref))

    async def _read_dir(self, build: Build, data: bytes) -> bytes:
        request = parse(pb.ReadDirRequest(), data)
        return await _dir(build, request, await self._directories(build, request.Ref))

    async def _stat_file(self, build: Build, data: bytes) -> bytes:
        request = parse(pb.StatFileRequest(), data)
        return await _stat(build, request, await self._directories(build, request.Ref))

    async def _evaluate(self, build: Build, data: bytes) -> bytes:
        request = parse(pb.EvaluateRequest(), data)
        if request.Ref:
            await self._reference(build, request.Ref).snapshot()
        return pb.EvaluateResponse().SerializeToString()

    async def _warn(self, build: Build, data: bytes) -> bytes:
        request = parse(pb.WarnRequest(), data)
        # The client calls a step by its op, progress by its vertex.
        request.digest = build.scope.received.get(request.digest, request.digest)
        build.teller.forward_warning(request)
        return pb.WarnResponse().SerializeToString()

    # --- containers -------------------------------------------------------------------------------

    async def _exec_process(self, call: IncomingCall) -> None:
        from pybuild.daemon.control.processes import serve_processes

        build = await self._build(call)
        try:
            await serve_processes(call, build)
        except Exception as error:
            raise build.error(error) from error

    async def _new_container(self, build: Build, data: bytes) -> bytes:
        request = parse(pb.NewContainerRequest(), data)
        await build.containers.create(build.scope, request, partial(self._reference, build))
        return pb.NewContainerResponse().SerializeToString()

    async def _release_container(self, build: Build, data: bytes) -> bytes:
        request = parse(pb.ReleaseContainerRequest(), data)
        await build.containers.release(request.ContainerID)
        return pb.ReleaseContainerResponse().SerializeToString()

    async def _read_file_container(self, build: Build, data: bytes) -> bytes:
        request = parse(pb.ReadFileRequest(), data)
        held = build.containers.find(request.Ref)
        return await _file(build, request, held.directories(request.MountIndex))

    async def _read_dir_container(self, build: Build, data: bytes) -> bytes:
        request = parse(pb.ReadDirRequest(), data)
        held = build.containers.find(request.Ref)
        return await _dir(build, request, held.directories(request.MountIndex))

    async def _stat_file_container(self, build: Build, data: bytes) -> bytes:
        request = parse(pb.StatFileRequest(), data)
        held = build.containers.find(request.Ref)
        return await _stat(build, request, held.directories(request.MountIndex))

    # --- sources ----------------------------------------------------------------------------------

    async def _resolve_image_config(self, build: Build, data: bytes) -> bytes:
        request = parse(pb.ResolveImageConfigRequest(), data)
        with noting(build.ledger.lookups):
            return (await resolve_image_config(build.scope, request)).SerializeToString()

    async def _resolve_source_meta(self, build: Build, data: bytes) -> bytes:
        request = parse(pb.ResolveSourceMetaRequest(), data)
        with noting(build.ledger.lookups):
            return (await resolve_source_meta(build.scope, request)).SerializeToString()


async def _file(build: Build, request: pb.ReadFileRequest, directories: Sequence[str]) -> bytes:
    limits = (request.Range.Offset, request.Range.Length) if request.HasField("Range") else None
    data = await read_file(build.scope, directories, request.FilePath, limits)
    return pb.ReadFileResponse(Data=data).SerializeToString()


async def _dir(build: Build, request: pb.ReadDirRequest, directories: Sequence[str]) -> bytes:
    entries = await read_dir(build.scope, directories, request.DirPath, request.IncludePattern)
    return pb.ReadDirResponse(entries=entries).SerializeToString()


async def _stat(build: Build, request: pb.StatFileRequest, directories: Sequence[str]) -> bytes:
    stat = await stat_file(build.scope, directories, request.Path)
    return pb.StatFileResponse(stat=stat).SerializeToString()


FRONTEND_CAPS = (
    "solve.base",
    "solve.inlinereturn",
    "resolveimage",
    "resolveimage.resolvemode",
    "readfile",
    "return",
    "returnmap",
    "readdir",
    "statfile",
    "importcaches",
    "proto.refarray",
    "reference.output",
    "reference.attestations",
    "frontend.inputs",
    "gateway.solve.metadata",
    "gateway.solve.evaluate",
    "gateway.evaluate",
    "gateway.evaluate.progress",
    "gateway.warnings",
    "frontend.caps",
    "source.metaresolver",
    "gateway.exec",
    "gateway.exec.extrahosts",
    "gateway.exec.secretenv",
    "gateway.exec.signals",
    "gateway.exec.filesystem",
)
"""Of the gateway service."""

SERVER_CAPS = (
    "exporter.image.attestations",
    "exporter.multiple",
    "gc.freespacefilter",
    "history.filter",
    "source.policy.session",
)
"""Of the server beyond definitions, told together with theirs; the first makes clients ask for
provenance."""
