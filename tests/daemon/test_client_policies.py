"""Builds of clients whose own policies are asked: about what, how, and how often [POL-1, remote-api 7]."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pybuild.buildkit.pb import control, gateway
from pybuild.buildkit.pb import ops as pb
from pybuild.buildkit.pb import policysession as policy
from pybuild.client.filesync import file_sync
from pybuild.daemon.session.verdicts import METHOD
from pybuild.engine.host import native_platform
from pybuild.model.reference import Reference
from pybuild.net.grpc.calls import Handler, IncomingCall, unary
from pybuild.net.grpc.status import RpcError
from tests.buildkit.llbs import Builder, copy, file_op
from tests.daemon.buildsites import Client as Solver
from tests.daemon.test_serverbuilds import Client, with_server

pytestmark = pytest.mark.slow
ALLOW, DENY, CONVERT = 0, 1, 2
Decide = Callable[[policy.CheckPolicyRequest], Awaitable[policy.CheckPolicyResponse]]


@dataclass
class Policy:
    """A client's policy; the identifiers that it was asked about."""

    decide: Decide
    asked: list[str] = field(default_factory=list[str])

    def handlers(self) -> dict[str, Handler]:
        async def check(data: bytes, call: IncomingCall) -> bytes:
            request = policy.CheckPolicyRequest.FromString(data)
            self.asked.append(request.Source.Source.identifier)
            return (await self.decide(request)).SerializeToString()

        return {METHOD: unary(check)}


def decision(action: int) -> policy.CheckPolicyResponse:
    return policy.CheckPolicyResponse(decision=policy.DecisionResponse(action=action))


def only(*allowed: str) -> Policy:
    async def decide(request: policy.CheckPolicyRequest) -> policy.CheckPolicyResponse:
        return decision(ALLOW if request.Source.Source.identifier in allowed else DENY)

    return Policy(decide)


def two_directories() -> pb.Definition:
    builder = Builder()
    edges = [
        builder.add(pb.Op(source=pb.SourceOp(identifier=f"local://{name}")))
        for name in ("context", "dockerfile")
    ]
    both = file_op(copy(-1, 0, src="/f", dest="/a"), copy(2, 1, 0, src="/f", dest="/b"))
    return builder.end(builder.add(both, *edges))


def test_the_directories_that_a_frontend_reads_are_put_to_the_policy(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        (client.context / "Dockerfile").write_bytes(b"FROM scratch\nLABEL a=b\n")
        solver = Solver(client.channel)
        nothing = only()
        with pytest.raises(RpcError, match="local://dockerfile.*not allowed by policy"):
            await solver.build(client.context, handlers=nothing.handlers())
        with pytest.raises(RpcError, match="local://context.*not allowed by policy"):
            await solver.build(client.context, handlers=only("local://dockerfile").handlers())
        enough = only("local://dockerfile", "local://context")
        await solver.build(client.context, handlers=enough.handlers())
        assert enough.asked == ["local://dockerfile", "local://context"]
        named = {"context:other": "local:other"}
        with pytest.raises(RpcError, match="local://other.*not allowed by policy"):
            await solver.build(client.context, attrs=named, handlers=enough.handlers())

    with_server(tmp_path, work)


def test_sources_are_asked_about_at_once(tmp_path: Path) -> None:
    """A policy may hold back what it says of one until it is asked about the other."""

    async def work(client: Client) -> None:
        came: dict[str, asyncio.Event] = {
            name: asyncio.Event() for name in ("context", "dockerfile")
        }

        async def decide(request: policy.CheckPolicyRequest) -> policy.CheckPolicyResponse:
            assert not request.HasField("Platform")
            name = request.Source.Source.identifier.removeprefix("local://")
            came[name].set()
            async with asyncio.timeout(50):
                await asyncio.gather(*(event.wait() for event in came.values()))
            return decision(ALLOW)

        files = Policy(decide)
        handlers = files.handlers() | file_sync(dict.fromkeys(came, str(client.context)))
        request = control.SolveRequest(Exporters=[control.Exporter(Type="cacheonly")])
        request.Definition.CopyFrom(two_directories())
        await Solver(client.channel).solve(request, handlers)
        assert sorted(files.asked) == ["local://context", "local://dockerfile"]

    with_server(tmp_path, work)


def test_base_images_are_asked_about_at_once_and_with_their_platform(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        images: dict[str, asyncio.Event] = {name: asyncio.Event() for name in ("one", "two")}
        architectures: set[str] = set()

        async def decide(request: policy.CheckPolicyRequest) -> policy.CheckPolicyResponse:
            name = request.Source.Source.identifier.rpartition("/")[2].removesuffix(":1")
            if name not in images:
                return decision(ALLOW)
            architectures.add(request.Platform.Architecture)
            images[name].set()
            async with asyncio.timeout(50):
                await asyncio.gather(*(event.wait() for event in images.values()))
            return decision(DENY)

        (client.context / "Dockerfile").write_bytes(
            b"FROM --platform=$BUILDPLATFORM one:1 AS a\nFROM --platform=linux/s390x two:1\n"
            b"COPY --from=a / /\n"
        )
        with pytest.raises(RpcError, match="not allowed by policy: action DENY"):
            await Solver(client.channel).build(client.context, handlers=Policy(decide).handlers())
        assert architectures == {native_platform().arch, "s390x"}

    with_server(tmp_path, work)


def test_a_source_that_is_replaced_by_itself_for_ever_is_refused(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        async def decide(request: policy.CheckPolicyRequest) -> policy.CheckPolicyResponse:
            answer = decision(CONVERT)
            answer.decision.update.CopyFrom(request.Source.Source)
            return answer

        endless = Policy(decide)
        with pytest.raises(RpcError, match="too many policy requests"):
            await Solver(client.channel).build(client.context, handlers=endless.handlers())
        assert endless.asked == ["local://dockerfile"] * 10

    with_server(tmp_path, work)


def test_a_policy_hears_of_an_image_what_it_asks_for(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        heard: list[bytes] = []

        async def decide(request: policy.CheckPolicyRequest) -> policy.CheckPolicyResponse:
            source = request.Source
            if not source.Source.identifier.startswith("docker-image://"):
                return decision(ALLOW)
            if source.HasField("Image"):
                assert source.Image.Digest
                heard.append(source.Image.Config)
                return decision(DENY)
            wanted = gateway.ResolveSourceMetaRequest(
                Source=source.Source, Platform=request.Platform, ResolveMode="local"
            )
            wanted.Image.NoConfig = not heard
            return policy.CheckPolicyResponse(request=wanted)

        await client.build(b"FROM scratch\nLABEL a=b\n", tags=(Reference.parse("base:1"),))
        (client.context / "Dockerfile").write_bytes(b"FROM base:1\n")
        for _ in range(2):
            with pytest.raises(RpcError, match="not allowed by policy"):
                await Solver(client.channel).build(
                    client.context, handlers=Policy(decide).handlers()
                )
        assert heard[0] == b"" and b'"a":"b"' in heard[1]

    with_server(tmp_path, work)
