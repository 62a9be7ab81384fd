"""The blobs of the history as clients read them: listed, filtered, and never written."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybuild.buildkit.pb import content as pb
from pybuild.buildkit.pb import control
from pybuild.model.digest import Digest
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.status import Code, RpcError
from tests.daemon.test_serverbuilds import Client, with_server

CONTENT = "/containerd.services.content.v1.Content/"
CONTROL = "/moby.buildkit.v1.Control/"


async def streamed(channel: Channel, method: str, request: bytes) -> list[bytes]:
    messages: list[bytes] = []
    async with channel.stream(method, timeout=60) as call:
        await call.send(request)
        await call.half_close()
        while (message := await call.receive()) is not None:
            messages.append(message)
    return messages


async def listed(channel: Channel, *filters: str) -> list[pb.Info]:
    request = pb.ListContentRequest(filters=filters).SerializeToString()
    messages = await streamed(channel, CONTENT + "List", request)
    return [info for one in messages for info in pb.ListContentResponse.FromString(one).info]


async def read(channel: Channel, digest: str, offset: int = 0, size: int = 0) -> bytes:
    request = pb.ReadContentRequest(digest=digest, offset=offset, size=size).SerializeToString()
    answers = [
        pb.ReadContentResponse.FromString(one)
        for one in await streamed(channel, CONTENT + "Read", request)
    ]
    at = offset
    for one in answers:
        assert one.offset == at
        at += len(one.data)
    return b"".join(one.data for one in answers)


async def forget_all(channel: Channel) -> None:
    request = control.BuildHistoryRequest(EarlyExit=True).SerializeToString()
    for message in await streamed(channel, CONTROL + "ListenBuildHistory", request):
        ref = control.BuildHistoryEvent.FromString(message).record.Ref
        update = control.UpdateBuildHistoryRequest(Ref=ref, Delete=True)
        await channel.unary(CONTROL + "UpdateBuildHistory", update.SerializeToString(), timeout=60)


async def code_of(channel: Channel, method: str, request: bytes) -> Code:
    with pytest.raises(RpcError) as raised:
        await streamed(channel, CONTENT + method, request)
    return raised.value.code


def test_blobs_of_the_history_are_listed_until_their_build_is_forgotten(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        channel = client.channel
        assert await listed(channel) == []
        await client.build()
        infos = await listed(channel)
        assert infos and all(info.size > 0 and info.HasField("created_at") for info in infos)
        assert [info.digest for info in infos] == sorted({info.digest for info in infos})
        for info in infos:
            request = pb.InfoRequest(digest=info.digest).SerializeToString()
            answer = await channel.unary(CONTENT + "Info", request, timeout=60)
            assert pb.InfoResponse.FromString(answer).info == info
        first = infos[0]
        whole = await read(channel, first.digest)
        assert Digest.of(whole) == first.digest and len(whole) == first.size
        assert await read(channel, first.digest, 3) == whole[3:]
        assert await read(channel, first.digest, 3, 4) == whole[3:7]
        assert await read(channel, first.digest, first.size - 1, 9) == whole[-1:]
        assert await read(channel, first.digest, first.size) == b""
        for offset, size in ((-1, 0), (0, -1), (first.size + 1, 0)):
            message = pb.ReadContentRequest(digest=first.digest, offset=offset, size=size)
            code = await code_of(channel, "Read", message.SerializeToString())
            assert code is Code.OUT_OF_RANGE
        unknown = pb.ReadContentRequest(digest=Digest.of(b"unknown")).SerializeToString()
        assert await code_of(channel, "Read", unknown) is Code.NOT_FOUND
        assert await listed(channel, f"digest=={first.digest}") == [first]
        assert await listed(channel, f'digest=="{first.digest}"', "labels.x") == [first]
        assert await listed(channel, f"digest!={first.digest}") == infos[1:]
        assert await listed(channel, f"digest=={first.digest},labels.x==y") == []
        assert await listed(channel, "labels.x!=y", "") == infos
        await forget_all(channel)
        assert await listed(channel) == []

    with_server(tmp_path, work)


def test_nothing_is_written_and_bad_questions_have_an_answer(tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        channel = client.channel
        for method in ("Update", "Delete", "Write", "Abort"):
            assert await code_of(channel, method, b"") is Code.UNKNOWN
        status = pb.StatusRequest(ref="r" * 100_000).SerializeToString()
        assert await code_of(channel, "Status", status) is Code.NOT_FOUND
        assert await code_of(channel, "Status", b"\xff") is Code.INVALID_ARGUMENT
        none = await streamed(channel, CONTENT + "ListStatuses", b"")
        assert none == [pb.ListStatusesResponse().SerializeToString()]
        for text in ("digest=", "size>3", "digest==a b", "digest~=(", "x" * 5000, "digest==a,"):
            request = pb.ListContentRequest(filters=[text]).SerializeToString()
            assert await code_of(channel, "List", request) is Code.INVALID_ARGUMENT, text
            assert await code_of(channel, "ListStatuses", request) is Code.INVALID_ARGUMENT
        many = pb.ListContentRequest(filters=["digest"] * 100_000).SerializeToString()
        assert await code_of(channel, "List", many) is Code.INVALID_ARGUMENT

    with_server(tmp_path, work)
