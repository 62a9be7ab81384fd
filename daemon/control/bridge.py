"""The handlers of `LLBBridge`, by which a frontend drives a build [6]."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from pybuild.buildkit.llb.caps import LLB_CAPS
from pybuild.buildkit.pb import gateway as pb
from pybuild.buildkit.pb.apicaps import APICap
from pybuild.buildkit.pb.worker import WorkerRecord
from pybuild.builds.lookups import noting
from pybuild.daemon.builds.runningfrontend import RunningFrontend
from pybuild.daemon.frontend.parsing import parse
from pybuild.daemon.frontend.reading import directories_of, read_dir, read_file, stat_file
from pybuild.daemon.frontend.sourcemeta import resolve_image_config, resolve_source_meta
from pybuild.net.grpc.calls import Handler, IncomingCall, unary

_SERVICE = "/moby.buildkit.v1.frontend.LLBBridge/"
BUILD_ID = "buildkit-controlapi-buildid"
_Answer = Callable[[RunningFrontend, bytes], Awaitable[bytes]]


class BridgeService:
    """`LLBBridge`, for frontends in clients or in containers.

    Args:
        find: returns the frontend that makes a call.
        worker: returns the description of this server's worker.
    """

    def __init__(
        self,
        find: Callable[[IncomingCall], Awaitable[RunningFrontend]],
        worker: Callable[[], Awaitable[WorkerRecord]],
    ) -> None:
        self._find = find
        self._worker = worker

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
            _SERVICE + name: unary(self._for_frontend(do)) for name, do in methods.items()
        }
        return handlers | {f"{_SERVICE}ExecProcess": self._exec_process}

    def _for_frontend(self, answer: _Answer) -> Callable[[bytes, IncomingCall], Awaitable[bytes]]:
        async def handle(data: bytes, call: IncomingCall) -> bytes:
            frontend = await self._find(call)
            try:
                return await answer(frontend, data)
            except Exception as error:
                raise frontend.error(error) from error

        return handle

    async def _ping(self, frontend: RunningFrontend, data: bytes) -> bytes:
        return pb.PongResponse(
            FrontendAPICaps=[APICap(ID=name, Enabled=True) for name in FRONTEND_CAPS],
            LLBCaps=[APICap(ID=name, Enabled=True) for name in sorted((*LLB_CAPS, *SERVER_CAPS))],
            Workers=[await self._worker()],
        ).SerializeToString()

    async def _solve(self, frontend: RunningFrontend, data: bytes) -> bytes:
        request = parse(pb.SolveRequest(), data)
        result = await frontend.solve(request)
        if request.Evaluate:
            async with asyncio.TaskGroup() as group:
                for _, reference in result.each():
                    if reference is not None:
                        group.create_task(reference.snapshot())
        return pb.SolveResponse(result=result.message()).SerializeToString()

    async def _return(self, frontend: RunningFrontend, data: bytes) -> bytes:
        frontend.end(parse(pb.ReturnRequest(), data))
        return pb.ReturnResponse().SerializeToString()

    async def _inputs(self, frontend: RunningFrontend, data: bytes) -> bytes:
        message = pb.InputsResponse()
        for name, definition in frontend.inputs.items():
            message.Definitions[name].CopyFrom(definition)
        return message.SerializeToString()

    # --- trees ------------------------------------------------------------------------------------

    async def _directories(self, frontend: RunningFrontend, id: str) -> Sequence[str]:
        return await directories_of(frontend.scope, frontend.find(id))

    async def _read_file(self, frontend: RunningFrontend, data: bytes) -> bytes:
        request = parse(pb.ReadFileRequest(), data)
        return await _file(frontend, request, await self._directories(frontend, request.Ref))

    async def _read_dir(self, frontend: RunningFrontend, data: bytes) -> bytes:
        request = parse(pb.ReadDirRequest(), data)
        return await _dir(frontend, request, await self._directories(frontend, request.Ref))

    async def _stat_file(self, frontend: RunningFrontend, data: bytes) -> bytes:
        request = parse(pb.StatFileRequest(), data)
        return await _stat(frontend, request, await self._directories(frontend, request.Ref))

    async def _evaluate(self, frontend: RunningFrontend, data: bytes) -> bytes:
        request = parse(pb.EvaluateRequest(), data)
        if request.Ref:
            await frontend.find(request.Ref).snapshot()
        return pb.EvaluateResponse().SerializeToString()

    async def _warn(self, frontend: RunningFrontend, data: bytes) -> bytes:
        request = parse(pb.WarnRequest(), data)
        # The client calls a step by its op, progress by its vertex.
        request.digest = frontend.scope.received.get(request.digest, request.digest)
        frontend.teller.forward_warning(request)
        return pb.WarnResponse().SerializeToString()

    # --- containers -------------------------------------------------------------------------------

    async def _exec_process(self, call: IncomingCall) -> None:
        from pybuild.daemon.control.processes import serve_processes

        frontend = await self._find(call)
        try:
            await serve_processes(call, frontend)
        except Exception as error:
            raise frontend.error(error) from error

    async def _new_container(self, frontend: RunningFrontend, data: bytes) -> bytes:
        request = parse(pb.NewContainerRequest(), data)
        await frontend.containers.create(frontend.scope, request, frontend.find)
        return pb.NewContainerResponse().SerializeToString()

    async def _release_container(self, frontend: RunningFrontend, data: bytes) -> bytes:
        request = parse(pb.ReleaseContainerRequest(), data)
        await frontend.containers.release(request.ContainerID)
        return pb.ReleaseContainerResponse().SerializeToString()

    async def _read_file_container(self, frontend: RunningFrontend, data: bytes) -> bytes:
        request = parse(pb.ReadFileRequest(), data)
        held = frontend.containers.find(request.Ref)
        return await _file(frontend, request, held.directories(request.MountIndex))

    async def _read_dir_container(self, frontend: RunningFrontend, data: bytes) -> bytes:
        request = parse(pb.ReadDirRequest(), data)
        held = frontend.containers.find(request.Ref)
        return await _dir(frontend, request, held.directories(request.MountIndex))

    async def _stat_file_container(self, frontend: RunningFrontend, data: bytes) -> bytes:
        request = parse(pb.StatFileRequest(), data)
        held = frontend.containers.find(request.Ref)
        return await _stat(frontend, request, held.directories(request.MountIndex))

    # --- sources ----------------------------------------------------------------------------------

    async def _resolve_image_config(self, frontend: RunningFrontend, data: bytes) -> bytes:
        request = parse(pb.ResolveImageConfigRequest(), data)
        with noting(frontend.lookups):
            return (await resolve_image_config(frontend.scope, request)).SerializeToString()

    async def _resolve_source_meta(self, frontend: RunningFrontend, data: bytes) -> bytes:
        request = parse(pb.ResolveSourceMetaRequest(), data)
        with noting(frontend.lookups):
            return (await resolve_source_meta(frontend.scope, request)).SerializeToString()


async def _file(
    frontend: RunningFrontend, request: pb.ReadFileRequest, directories: Sequence[str]
) -> bytes:
    limits = (request.Range.Offset, request.Range.Length) if request.HasField("Range") else None
    data = await read_file(frontend.scope, directories, request.FilePath, limits)
    return pb.ReadFileResponse(Data=data).SerializeToString()


async def _dir(
    frontend: RunningFrontend, request: pb.ReadDirRequest, directories: Sequence[str]
) -> bytes:
    entries = await read_dir(frontend.scope, directories, request.DirPath, request.IncludePattern)
    return pb.ReadDirResponse(entries=entries).SerializeToString()


async def _stat(
    frontend: RunningFrontend, request: pb.StatFileRequest, directories: Sequence[str]
) -> bytes:
    stat = await stat_file(frontend.scope, directories, request.Path)
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
    "source.metaresolver.image.attestations",
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
