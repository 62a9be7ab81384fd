"""A client's own policies decide what its build may use [POL-1, POL-5]."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator
from pathlib import Path

import pytest

from pybuild.buildkit.pb import gateway
from pybuild.buildkit.pb import policysession as pb
from pybuild.daemon.session.verdicts import METHOD
from pybuild.net.grpc.calls import Handler, IncomingCall, unary
from pybuild.net.grpc.status import RpcError
from tests.daemon.buildsites import Client, Daemon, client, daemon
from tests.harness import Pybuild, make_base, write
from tests.needs import needs

pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow, needs("nft")]
BASE = "docker-image://docker.io/library/base:"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Daemon]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    where = tmp_path_factory.mktemp("policies")
    pybuild = Pybuild(where / "store")
    make_base(pybuild, where / "base", "base:1")
    with daemon(pybuild, where) as found:
        yield found


class Rules:
    """Lets base:1 pass when it knows its digest, takes it for base:2, and refuses other images."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def handlers(self) -> dict[str, Handler]:
        return {METHOD: unary(self._check)}

    async def _check(self, data: bytes, call: IncomingCall) -> bytes:
        del call
        found = pb.CheckPolicyRequest.FromString(data).Source
        source = found.Source
        answer = pb.CheckPolicyResponse()
        if source.identifier.startswith("local://"):
            answer.decision.action = 0
            return answer.SerializeToString()
        if source.identifier == BASE + "1" and not found.Image.Digest:
            request = gateway.ResolveSourceMetaRequest(Source=source, ResolveMode="local")
            answer.request.CopyFrom(request)
            return answer.SerializeToString()
        self.asked.append(source.identifier)
        answer.decision.action = 0 if source.identifier == BASE + "1" else 1
        if source.identifier == BASE + "2":
            answer.decision.action = 2
            answer.decision.update.identifier = BASE + "1"
        return answer.SerializeToString()


def built(server: Daemon, folder: Path, dockerfile: str, **attrs: str) -> tuple[bytes, list[str]]:
    context = write(folder / "c", Dockerfile=dockerfile)
    rules = Rules()

    async def run() -> bytes:
        async with client(server.address) as c:
            use: Client = c
            wanted = {"no-cache": "", **attrs}
            return (await use.build(context, attrs=wanted, handlers=rules.handlers())).logs

    return asyncio.run(run()), rules.asked


def test_what_it_lets_pass_is_built_and_asked_about_once(server: Daemon, tmp_path: Path) -> None:
    text = "FROM base:1 AS a\nRUN echo one\nFROM base:1\nCOPY --from=a /bin/sh /sh\nRUN echo two\n"
    logs, asked = built(server, tmp_path, text)
    assert logs == b"one\ntwo\n" and asked == [BASE + "1"]


def test_what_it_replaces_is_judged_again(server: Daemon, tmp_path: Path) -> None:
    logs, asked = built(server, tmp_path, "FROM base:2\nRUN echo here\n")
    assert logs == b"here\n" and asked == [BASE + "2", BASE + "1"]


def test_what_it_refuses_is_not_used_and_what_is_not_needed_not_asked_about(
    server: Daemon, tmp_path: Path
) -> None:
    text = "FROM base:1 AS a\nRUN echo a\nFROM base:9 AS b\n"
    with pytest.raises(RpcError, match="base:9.* not allowed by policy: action DENY"):
        built(server, tmp_path, text)
    logs, asked = built(server, tmp_path, text, target="a")
    assert logs == b"a\n" and asked == [BASE + "1"]
