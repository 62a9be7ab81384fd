"""Exporters that a client chooses for the results of a build."""

from __future__ import annotations

import asyncio

import pytest

from pybuild.buildkit.pb.control import SolveRequest
from pybuild.buildkit.pb.exporter import (
    ExporterRequest,
    FinalizeExportRequest,
    FindExportersRequest,
    FindExportersResponse,
)
from pybuild.daemon.builds.outputs import outputs_of_session
from pybuild.daemon.frontend.results import Result
from pybuild.daemon.session.exporters import finalize_export, find_exporters
from pybuild.model.errors import UserError
from pybuild.net.grpc.calls import IncomingCall, unary
from pybuild.net.grpc.status import Code, RpcError
from tests.daemon.peers import connected

FIND = "/moby.exporter.v1.Exporter/FindExporters"
FINALIZE = "/moby.exporter.v1.Exporter/FinalizeExport"


def test_a_client_chooses_its_exporters_when_it_knows_the_results() -> None:
    seen: list[FindExportersRequest] = []

    async def find(data: bytes, call: IncomingCall) -> bytes:
        seen.append(FindExportersRequest.FromString(data))
        chosen = ExporterRequest(Type="oci", Attrs={"compression": "zstd"})
        return FindExportersResponse(exporters=[chosen]).SerializeToString()

    async def run() -> None:
        result = Result(metadata={"a": b"b"})
        async with connected({FIND: unary(find)}) as session:
            request = SolveRequest(EnableSessionExporter=True)
            (output,) = await outputs_of_session(request, session, result)
            assert (output.type, output.compression) == ("oci", "zstd")
            assert await outputs_of_session(SolveRequest(), session, result) == []
            assert await outputs_of_session(request, None, result) == []
        assert [(dict(one.metadata), list(one.refs)) for one in seen] == [({"a": b"b"}, [])]

    asyncio.run(run())


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.UNIMPLEMENTED])
def test_a_client_need_not_choose_any(code: Code) -> None:
    async def none(data: bytes, call: IncomingCall) -> bytes:
        raise RpcError(code, "none")

    async def run() -> None:
        for handlers in ({FIND: unary(none), FINALIZE: unary(none)}, {}):
            async with connected(handlers) as session:
                assert await find_exporters(session, {}, []) == []
                await finalize_export(session, {})

    asyncio.run(run())


def test_a_client_hears_the_answer_and_may_fail_the_build() -> None:
    async def finalize(data: bytes, call: IncomingCall) -> bytes:
        facts = FinalizeExportRequest.FromString(data).exporter_response
        raise RpcError(Code.UNKNOWN, f"refused {facts['x']}")

    async def many(data: bytes, call: IncomingCall) -> bytes:
        exporters = [ExporterRequest(Type="local")] * 1000
        return FindExportersResponse(exporters=exporters).SerializeToString()

    async def odd(data: bytes, call: IncomingCall) -> bytes:
        return b"\xff"

    async def run() -> None:
        async with connected({FINALIZE: unary(finalize), FIND: unary(many)}) as session:
            with pytest.raises(UserError, match="refused 1"):
                await finalize_export(session, {"x": "1"})
            with pytest.raises(UserError, match="1000 exporters"):
                await find_exporters(session, {}, [])
        async with connected({FIND: unary(odd)}) as session:
            with pytest.raises(UserError, match="cannot be read"):
                await find_exporters(session, {}, [])

    asyncio.run(run())
