"""Policies that a client decides by, both ends real [POL-1, remote-api 7]."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from pybuild.buildkit.pb import gateway
from pybuild.buildkit.pb import policysession as pb
from pybuild.buildkit.pb.errors import parse_status
from pybuild.buildkit.pb.ops import SourceOp
from pybuild.daemon.control.failures import rpc_error
from pybuild.daemon.session.verdicts import METHOD, SessionVerdicts, SourceRefused
from pybuild.model.errors import UserError
from pybuild.model.policy import PolicySource, Undecided
from pybuild.net.grpc.calls import Handler, IncomingCall, unary
from tests.daemon.peers import connected

ALPINE = PolicySource(
    "docker-image://docker.io/library/alpine:latest", {"image.resolvemode": "pull"}
)
Decide = Callable[[pb.CheckPolicyRequest], pb.CheckPolicyResponse]


def handler(decide: Decide) -> dict[str, Handler]:
    async def check(data: bytes, call: IncomingCall) -> bytes:
        del call
        return decide(pb.CheckPolicyRequest.FromString(data)).SerializeToString()

    return {METHOD: unary(check)}


def decision(action: int, **more: object) -> pb.CheckPolicyResponse:
    return pb.CheckPolicyResponse(decision=pb.DecisionResponse(action=action, **more))  # type: ignore[arg-type]


async def look_up(
    request: gateway.ResolveSourceMetaRequest,
) -> gateway.ResolveSourceMetaResponse:
    image = gateway.ResolveSourceImageResponse(Digest="sha256:" + "a" * 64)
    return gateway.ResolveSourceMetaResponse(Source=request.Source, Image=image)


def verdict(decide: Decide, source: PolicySource = ALPINE) -> PolicySource:
    async def run() -> PolicySource:
        async with connected(handler(decide)) as session:
            verdicts = SessionVerdicts(session)
            with pytest.raises(Undecided):
                verdicts.judge(source)
            await verdicts.decide(source, look_up)
            return verdicts.judge(source)

    return asyncio.run(run())


def test_the_client_sees_the_source_and_lets_it_pass() -> None:
    seen: list[pb.CheckPolicyRequest] = []

    def decide(request: pb.CheckPolicyRequest) -> pb.CheckPolicyResponse:
        seen.append(request)
        return decision(0)

    assert verdict(decide) == ALPINE
    (request,) = seen
    assert request.Source.Source.identifier == ALPINE.identifier
    assert dict(request.Source.Source.attrs) == dict(ALPINE.attrs)


def test_it_may_put_another_in_its_place() -> None:
    pinned = SourceOp(identifier=f"{ALPINE.identifier}@sha256:x", attrs={"a": "b"})
    assert verdict(lambda _: decision(2, update=pinned)) == PolicySource(
        pinned.identifier, {"a": "b"}
    )


def test_it_may_want_to_know_more_first() -> None:
    def decide(request: pb.CheckPolicyRequest) -> pb.CheckPolicyResponse:
        if request.Source.HasField("Image"):
            return decision(0)
        asked = gateway.ResolveSourceMetaRequest(Source=request.Source.Source)
        return pb.CheckPolicyResponse(request=asked)

    assert verdict(decide) == ALPINE


def test_a_refusal_is_told_with_the_policys_words_to_all_clients() -> None:
    with pytest.raises(SourceRefused, match="not allowed by policy: action DENY") as caught:
        verdict(lambda _: decision(1, denyMessages=[pb.DenyMessage(message="too old")]))
    assert caught.value.hints == ("too old",)
    status = parse_status(rpc_error(caught.value).details)
    assert status is not None
    (detail,) = [d for d in status.details if "policysession" in d.type_url]
    assert detail.type_url == "github.com/moby/buildkit/policysession.DecisionResponse+json"
    assert detail.value == b'{"action":1,"denyMessages":[{"message":"too old"}]}'


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (pb.CheckPolicyResponse(), "no decision"),
        (decision(2), "requires updated source"),
        (decision(9), "action 9"),
        (
            pb.CheckPolicyResponse(
                request=gateway.ResolveSourceMetaRequest(
                    Source=SourceOp(identifier="docker-image://secret.example/other")
                )
            ),
            "policy requested different source",
        ),
    ],
)
def test_an_answer_that_is_none_refuses(answer: pb.CheckPolicyResponse, words: str) -> None:
    with pytest.raises(UserError, match=words):
        verdict(lambda _: answer)


def test_questions_have_an_end() -> None:
    asked = 0

    def decide(request: pb.CheckPolicyRequest) -> pb.CheckPolicyResponse:
        nonlocal asked
        asked += 1
        source = gateway.ResolveSourceMetaRequest(Source=request.Source.Source)
        return pb.CheckPolicyResponse(request=source)

    with pytest.raises(UserError, match="too many policy requests"):
        verdict(decide)
    assert asked == 10


def test_a_client_without_policies_is_no_client_that_allows() -> None:
    async def run() -> None:
        async with connected({}) as session:
            with pytest.raises(UserError, match="policies"):
                await SessionVerdicts(session).decide(ALPINE, look_up)

    asyncio.run(run())


def test_a_build_of_endless_sources_is_refused() -> None:
    """Each verdict begins the reading of the Dockerfile again, on the server."""

    async def run() -> None:
        async with connected(handler(lambda _: decision(0))) as session:
            verdicts = SessionVerdicts(session, 2)
            for number in range(2):
                await verdicts.decide(PolicySource(f"docker-image://x/{number}"), look_up)
            with pytest.raises(UserError, match="2 sources at most"):
                await verdicts.decide(PolicySource("docker-image://x/2"), look_up)

    asyncio.run(run())
