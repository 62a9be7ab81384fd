"""Builds of a client that begin with what another one of its builds made, as bake links targets."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from pybuild.buildkit.pb import gateway, ops
from pybuild.client.filesync import file_sync
from pybuild.client.secrets import secrets
from pybuild.net.grpc.status import RpcError
from tests.daemon.gateways import parked
from tests.daemon.test_serverbuilds import Client, with_server
from tests.webservers import site

pytestmark = pytest.mark.slow
NAME = "HTTP_AUTH_TOKEN_127.0.0.1"


def dockerfile(**attrs: str) -> gateway.SolveRequest:
    return gateway.SolveRequest(Frontend="dockerfile.v0", FrontendOpt=attrs, Evaluate=True)


@pytest.mark.parametrize("ends", [False, True])
def test_a_linked_builds_secrets_are_those_of_who_made_it(tmp_path: Path, ends: bool) -> None:
    """Until that one has ended: then nobody has them."""

    async def work(client: Client, url: str) -> None:
        base, rest = tmp_path / "base", tmp_path / "rest"
        for folder, text in (
            (base, f"FROM scratch\nADD {url}/f /f\n"),
            (rest, "FROM base\nCOPY --from=base /f /g\n"),
        ):
            folder.mkdir()
            (folder / "Dockerfile").write_text(text)
        known = secrets({NAME: lambda: b"s3cret"})
        first = parked(
            client.channel, file_sync({"context": str(base), "dockerfile": str(base)}) | known
        )
        async with parked(
            client.channel, file_sync({"context": str(rest), "dockerfile": str(rest)})
        ) as second:
            linked = dockerfile(**{"context:base": "input:base"})
            async with first as gate:
                request = dockerfile()
                request.Evaluate = False
                made = await gate.solve(request)
                linked.FrontendInputs["base"].CopyFrom(made.ref.defs)
                if not ends:
                    await second.solve(linked)
            if ends:
                with pytest.raises(RpcError, match="401"):
                    await second.solve(linked)

    with site() as web:
        web.authorization, web.files["/f"] = "Bearer s3cret", b"data"
        with_server(tmp_path, lambda client: work(client, web.url))


def test_secrets_are_found_through_a_build_that_only_passed_the_step_on(tmp_path: Path) -> None:
    """A target of bake that links one that links one with the secret [MNT-18]."""

    async def work(client: Client, url: str) -> None:
        texts = {
            "first": f"FROM scratch\nADD {url}/f /f\n",
            "middle": "FROM base\nCOPY --from=base /f /g\n",
            "last": "FROM base\nCOPY --from=base /g /h\n",
        }
        known = secrets({NAME: lambda: b"s3cret"})
        definition: ops.Definition | None = None
        async with AsyncExitStack() as stack:
            for name, text in texts.items():
                folder = tmp_path / name
                folder.mkdir()
                (folder / "Dockerfile").write_text(text)
                offered = file_sync({"context": str(folder), "dockerfile": str(folder)})
                offered |= known if name == "first" else {}
                gate = await stack.enter_async_context(parked(client.channel, offered))
                request = dockerfile()
                if definition is not None:
                    request = dockerfile(**{"context:base": "input:base"})
                    request.FrontendInputs["base"].CopyFrom(definition)
                request.Evaluate = name == "last"
                definition = (await gate.solve(request)).ref.defs

    with site() as web:
        web.authorization, web.files["/f"] = "Bearer s3cret", b"data"
        with_server(tmp_path, lambda client: work(client, web.url))
