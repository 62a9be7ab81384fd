"""Words that a client's frontend puts beside its result: facts, a name and annotations of the image."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from pybuild.buildkit.pb import control, gateway
from pybuild.daemon.builds.outputs import finished_outputs
from pybuild.exporter.output import Output
from pybuild.model.errors import UserError
from pybuild.net.grpc.status import RpcError
from tests.buildkit.llbs import file_op, mkdir, one
from tests.daemon.gateways import parked
from tests.daemon.test_serverbuilds import Client, with_server


async def exported(client: Client, metadata: dict[str, bytes], **attrs: str) -> dict[str, str]:
    """Export a small tree as an image, as a frontend's result with *metadata*."""
    exporter = control.Exporter(Type="image", Attrs=attrs)
    return await made(client, metadata, control.SolveRequest(Exporters=[exporter]))


async def made(
    client: Client, metadata: dict[str, bytes], request: control.SolveRequest
) -> dict[str, str]:
    """Give a small tree as a frontend's result with *metadata* to the build of *request*."""
    async with parked(client.channel, {}, request) as gate:
        tree = await gate.solve(gateway.SolveRequest(Definition=one(file_op(mkdir("/d", -1, 0)))))
        result = gateway.Result(metadata=metadata)
        result.ref.id = tree.ref.id
        return dict(await gate.give(result))


@pytest.mark.slow
def test_a_frontend_names_and_annotates_its_image_and_tells_its_client(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        metadata = {
            "frontend.returned": b"true",
            "not-frontend.not-returned": b"no",
            "image.name": b"app:7",
            "annotation-manifest-descriptor.who": b"frontend",
            "annotation.note": b"n",
        }
        given = {"name": "*", "annotation-manifest-descriptor.who": "client", "attest:sbom": ""}
        facts = await exported(client, metadata, **given)
        assert facts["frontend.returned"] == "true" and "not-frontend.not-returned" not in facts
        assert facts["image.name"] == "docker.io/library/app:7"
        descriptor = json.loads(base64.b64decode(facts["containerimage.descriptor"]))
        assert descriptor["annotations"]["who"] == "frontend"

    with_server(tmp_path, work)


@pytest.mark.slow
def test_an_image_that_is_to_be_named_by_a_frontend_that_is_silent_is_refused(
    tmp_path: Path,
) -> None:
    async def work(client: Client) -> None:
        with pytest.raises(RpcError, match="invalid reference format"):
            await exported(client, {}, name="*")

    with_server(tmp_path, work)


@pytest.mark.slow
def test_a_config_of_half_a_platform_is_no_image_and_no_fault_of_a_build_without_one(
    tmp_path: Path,
) -> None:
    """A frontend in BuildKit's client says only the system of a local directory that replaces a stage."""

    async def work(client: Client) -> None:
        metadata = {"containerimage.config": b'{"architecture":"","os":"linux"}'}
        await made(client, metadata, control.SolveRequest())
        with pytest.raises(RpcError, match="os and architecture must be specified together"):
            await exported(client, metadata)

    with_server(tmp_path, work)


def test_words_that_cannot_be_are_refused_and_trees_have_none() -> None:
    image, tree = Output(type="image", attrs={"name": "a"}), Output(type="local", dest="d")
    for metadata in (
        {"annotation.x": b"\xff"},
        {"annotation-nowhere.x": b""},
        {"annotation-index[linux/amd64].x": b""},
    ):
        with pytest.raises(UserError):
            finished_outputs([image], metadata)
        assert finished_outputs([tree], metadata) == [tree]
    assert finished_outputs([image, tree], {"annotationless": b"", "image.name": b"b"}) == [
        image,
        tree,
    ]
