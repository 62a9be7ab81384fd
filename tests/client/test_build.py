"""Builds by a server, as a client on another machine asks for them and hears of them [7, SEC-1, SEC-4].

The server is in this process, in a thread of its own, and no step runs.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pybuild.buildkit.pb import filesync
from pybuild.buildkit.pb import secrets as secretpb
from pybuild.builds.request import BuildRequest
from pybuild.cache.space.prune import Policy
from pybuild.client.auth import auth
from pybuild.client.build import solve_request
from pybuild.client.builders import BuilderRecord
from pybuild.client.exports import plan
from pybuild.client.remotebuilder import RemoteBuilder
from pybuild.client.secrets import METHOD as SECRET
from pybuild.client.secrets import secrets
from pybuild.commandline.parser import Parsed
from pybuild.explain.report import BuildReport
from pybuild.exporter.output import parse_output
from pybuild.frontend.question import Question
from pybuild.model.errors import UsageError, UserError
from pybuild.model.events import Event, VertexAdded
from pybuild.model.policy import Action, Policies, Rule, Selector
from pybuild.model.policy import Policy as SourcePolicy
from pybuild.model.reference import Reference
from pybuild.net.grpc.calls import Handler
from pybuild.net.grpc.status import Code, RpcError
from pybuild.registry.client.credentials import (
    Credential,
    FetchedToken,
    NoCredentials,
    StaticCredentials,
)
from tests.daemon.serving import channel
from tests.daemon.test_serverbuilds import served

TOKENS = "/moby.filesync.v1.Auth/FetchToken"

COPY = b"FROM scratch AS base\nCOPY f /d/\n"


@pytest.fixture
def record(tmp_path: Path) -> Generator[BuilderRecord]:
    """A server that lives for the test."""
    begun = threading.Event()
    made: list[BuilderRecord] = []
    ends: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        async with served(tmp_path) as record:
            made.append(record)
            ends.append((asyncio.get_running_loop(), asyncio.Event()))
            begun.set()
            await ends[0][1].wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert begun.wait(60)
    yield made[0]
    loop, end = ends[0]
    loop.call_soon_threadsafe(end.set)
    thread.join(60)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    place = tmp_path / "context"
    place.mkdir()
    (place / "Dockerfile").write_bytes(COPY)
    (place / "f").write_text("text")
    return place


def options(**given: str) -> Parsed:
    parsed = Parsed()
    parsed.values = {name.replace("_", "-"): [value] for name, value in given.items()}
    return parsed


def test_an_image_is_built_explained_listed_and_forgotten(
    record: BuilderRecord, context: Path, tmp_path: Path
) -> None:
    builder = RemoteBuilder(record, options())
    events: list[Event] = []
    told: list[BuildReport] = []
    request = BuildRequest(context=str(context), tags=(Reference.parse("app:1"),))
    first = builder.build(request, events.append, told.append)
    assert first.image is not None
    assert ("[1/1] COPY f /d/", "DONE") in first.steps
    assert first.metadata["containerimage.digest"] == first.image.digest
    assert [name for name in map(str, first.names)] == ["docker.io/library/app:1"]
    assert any(isinstance(one, VertexAdded) and "COPY f" in one.name for one in events)
    assert len(told) == 1
    (build,) = builder.builds()
    again: list[Event] = []
    builder.replay(build, again.append)
    assert any(isinstance(one, VertexAdded) and "COPY f" in one.name for one in again)
    assert len(builder.reports(everything=True)) == len(builder.reports(everything=False)) == 1
    records = builder.usage(())
    assert sum(one.size for one in records) > 0
    assert builder.usage(["id=nothing"]) == []
    assert builder.facts().version and builder.facts().platforms
    with pytest.raises(UsageError, match="a share of a disk is the build server's"):
        builder.disk_bytes()
    freed: list[object] = []
    assert builder.prune(Policy(all=True), freed.append) > 0 and freed
    builder.forget([build])
    assert builder.builds() == []
    with pytest.raises(UserError, match='"absent" is not in the context'):
        text = b"FROM scratch\nCOPY absent /\n"
        builder.build(replace(request, dockerfile_text=text), events.append)
    out = tmp_path / "out"
    builder.build(
        BuildRequest(context=str(context), outputs=(parse_output(f"type=local,dest={out}"),)),
        events.append,
    )
    assert (out / "d/f").read_text() == "text"


def test_an_image_is_loaded_into_the_store_here(
    record: BuilderRecord, context: Path, tmp_path: Path
) -> None:
    from pybuild.cache.store import Store
    from tests.clocks import FakeClock

    root = tmp_path / "here"
    load = parse_output("type=docker")
    request = BuildRequest(context=str(context), tags=(Reference.parse("app:1"),), load=load)
    events: list[Event] = []
    result = RemoteBuilder(record, options(root=str(root))).build(request, events.append)
    with Store.open(str(root), FakeClock()) as store:
        found = store.images.resolve("app:1")
        assert found is not None and result.image is not None
        assert found.digest == result.image.digest
        assert store.blobs.read(found.digest)


def test_questions_are_answered_without_a_build(record: BuilderRecord, context: Path) -> None:
    (context / "Dockerfile").write_bytes(b"ARG A=1\nFROM scratch as X\nCOPY f /\n")
    builder = RemoteBuilder(record, options())
    request = BuildRequest(context=str(context))
    answers = {question: builder.answer(question, request) for question in Question}
    assert len(answers) == len(Question)
    with pytest.raises(UserError, match="unknown instruction: BLA"):
        builder.answer(Question.OUTLINE, replace(request, dockerfile_text=b"FROM scratch\nBLA\n"))
    assert builder.builds() == []


def test_a_request_says_all_that_a_server_is_to_know() -> None:
    rule = Rule(Action.DENY, Selector("docker-image://x"))
    request = BuildRequest(
        context=".",
        allow=frozenset(("network.host", "security.insecure")),
        policies=Policies((SourcePolicy((rule,)),)),
        outputs=(parse_output("type=oci,dest=-,compatibility-version=20"),),
    )
    message = solve_request(request, {"a": "b"}, plan(request))
    assert list(message.Entitlements) == ["network.host", "security.insecure"]
    assert dict(message.FrontendAttrs) == {"a": "b"} and message.Frontend == "dockerfile.v0"
    assert message.CompatibilityVersion == 20
    assert len(message.SourcePolicy.rules) == 1
    assert message.ExporterDeprecated == message.Exporters[0].Type == "oci"
    assert dict(message.ExporterAttrsDeprecated) == dict(message.Exporters[0].Attrs)
    plain = solve_request(BuildRequest(context="."), {}, plan(BuildRequest(context=".")))
    assert not plain.HasField("SourcePolicy") and plain.CompatibilityVersion == 0
    assert len(plain.Ref) == 32 and plain.Ref != message.Ref


def asked(handlers: Mapping[str, Handler], method: str, message: Any) -> bytes:
    async def run() -> bytes:
        async with channel(handlers) as opened:
            return await opened.unary(method, message.SerializeToString())

    return asyncio.run(run())


def test_logins_are_lent_by_the_names_of_registries() -> None:
    logins = {
        "docker.io": Credential("me", "password"),
        "r.example": Credential("me", "password", identity_token="token"),
    }
    handlers = auth(StaticCredentials(logins))

    def login(host: str) -> tuple[str, str]:
        data = asked(
            handlers,
            "/moby.filesync.v1.Auth/Credentials",
            filesync.CredentialsRequest(Host=host),
        )
        answer = filesync.CredentialsResponse.FromString(data)
        return answer.Username, answer.Secret

    assert login("registry-1.docker.io") == ("me", "password")
    assert login("r.example") == ("", "token")
    assert login("other") == ("", "")


def test_secrets_are_lent_by_their_ids(tmp_path: Path) -> None:
    known = {
        "a": lambda: b"value",
        "lost": (tmp_path / "nothing").read_bytes,
        "long": lambda: bytes((500 << 10) + 1),
        "most": lambda: bytes(500 << 10),
    }

    def secret(id: str) -> bytes:
        data = asked(secrets(known), SECRET, secretpb.GetSecretRequest(ID=id))
        return secretpb.GetSecretResponse.FromString(data).data

    assert secret("a") == b"value" and len(secret("most")) == 500 << 10
    refused = {
        "none": (Code.NOT_FOUND, "secret none not found"),
        "lost": (Code.UNKNOWN, "cannot read secret lost: No such file or directory"),
        "long": (Code.RESOURCE_EXHAUSTED, "secret long is longer than 512000 bytes"),
    }
    for id, (code, message) in refused.items():
        with pytest.raises(RpcError) as caught:
            secret(id)
        assert (caught.value.code, caught.value.message) == (code, message)


class Tokens(NoCredentials):
    """Credentials that fetch tokens of one registry."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str, list[str]]] = []

    async def fetch_token(
        self, host: str, realm: str, service: str, scopes: Sequence[str]
    ) -> FetchedToken | None:
        self.asked.append((host, realm, service, list(scopes)))
        return (
            FetchedToken(token="secret", expires_in=60, issued_at=7)
            if host == "docker.io"
            else None
        )


def test_tokens_are_fetched_where_that_can_be_done() -> None:
    known = Tokens()

    def fetched(host: str) -> filesync.FetchTokenResponse:
        request = filesync.FetchTokenRequest(Host=host, Realm="r", Service="s", Scopes=["a", "b"])
        return filesync.FetchTokenResponse.FromString(asked(auth(known), TOKENS, request))

    answer = fetched("registry-1.docker.io")
    assert (answer.Token, answer.ExpiresIn, answer.IssuedAt) == ("secret", 60, 7)
    with pytest.raises(RpcError) as caught:
        fetched("other")
    assert (caught.value.code, caught.value.message) == (Code.NOT_FOUND, "no token for other")
    assert known.asked == [("docker.io", "r", "s", ["a", "b"]), ("other", "r", "s", ["a", "b"])]
    assert TOKENS not in auth(StaticCredentials({}))
