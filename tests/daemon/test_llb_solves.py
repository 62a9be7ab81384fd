"""Definitions that a client solves by itself, without a frontend, from request to output."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pybuild.buildkit.pb import control
from pybuild.buildkit.pb import ops as pb
from pybuild.client.filesend import ToDirectory, file_send
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.status import RpcError
from tests.buildkit.llbs import file_op, mkdir, one
from tests.daemon.buildsites import Built
from tests.daemon.buildsites import Client as Solver
from tests.daemon.test_serverbuilds import Client, with_server

pytestmark = pytest.mark.slow


async def solved(
    channel: Channel, definition: pb.Definition, out: Path, **fields: object
) -> tuple[set[str], Mapping[str, str]]:
    """Export *definition* to a directory, and return the names there and the response."""
    request = control.SolveRequest(Exporters=[control.Exporter(Type="local")], **fields)  # type: ignore[arg-type]  # pyright: ignore
    request.Definition.CopyFrom(definition)
    built: Built = await Solver(channel).solve(request, file_send({0: ToDirectory(str(out))}))
    return {str(path.relative_to(out)) for path in out.rglob("*")}, built.response


def test_an_empty_definition_is_the_empty_tree(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        assert (await solved(client.channel, pb.Definition(), tmp_path / "out"))[0] == set()
        request = control.SolveRequest(Exporters=[control.Exporter(Type="image")])
        request.Definition.CopyFrom(pb.Definition())
        built = await Solver(client.channel).solve(request, {})
        assert built.response["containerimage.digest"]

    with_server(tmp_path, work)


def test_a_definition_and_a_frontend_are_one_too_many(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        some = one(file_op(mkdir("/d", -1, 0)))
        assert (await solved(client.channel, some, tmp_path / "out"))[0] == {"d"}
        with pytest.raises(RpcError, match="both Definition and Frontend"):
            await solved(client.channel, some, tmp_path / "o", Frontend="dockerfile.v0")

    with_server(tmp_path, work)
