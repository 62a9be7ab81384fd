"""Outputs that a server sends: whose they are, and what stays of what was there [7.3]."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from pybuild.buildkit.fsutil.packet import END_OF_LIST, FIN_PACKET, Stat, encode_error, encode_stat
from pybuild.buildkit.session.bytesmessage import wrap
from pybuild.client.filesend import (
    METHOD,
    ArchiveSink,
    ToDirectory,
    ToStream,
    file_send,
    tree_writer,
)
from pybuild.model.errors import PybuildError
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.status import Code, RpcError
from tests.daemon.serving import channel

Target = ToDirectory | ToStream


class Memory:
    """An output that remembers."""

    def __init__(self) -> None:
        self.data = b""
        self.ended = ""

    def write(self, data: bytes, /) -> None:
        self.data += data

    def close(self) -> None:
        self.ended = "close"

    def abort(self) -> None:
        self.ended = "abort"


def sent(
    targets: Mapping[int, Target],
    *messages: bytes,
    faults: list[PybuildError] | None = None,
    headers: Mapping[str, str] | None = None,
) -> list[bytes]:
    """Send *messages* as a server does, and return what it hears."""
    is_tree = messages[-1:] == (END_OF_LIST,)
    named = {name.replace("_", "-"): value for name, value in (headers or {}).items()}

    async def run() -> list[bytes]:
        heard: list[bytes] = []
        async with (
            channel(file_send(targets, faults)) as opened,
            opened.stream(METHOD, metadata=Metadata(named)) as call,
        ):
            for message in messages:
                await call.send(message)
            if not is_tree:
                await call.half_close()
            while (answer := await call.receive()) is not None:
                heard.append(answer)
                if answer == FIN_PACKET:  # a sender says goodbye after the receiver
                    await call.send(FIN_PACKET)
                    await call.half_close()
        return heard

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("number", "place"), [("0", 0), ("", 0), ("7", 7), ("123456789", 123456789)]
)
def test_an_output_is_that_of_its_exporter(number: str, place: int) -> None:
    output = Memory()
    told: dict[str, str] = {}

    def opened(facts: Mapping[str, str]) -> ArchiveSink:
        told.update(facts)
        return output

    headers = {"exporter_md_k": "v", "other": "x"}
    if number:
        headers["buildkit_attachable_exporter_id"] = number
    assert sent({place: ToStream(opened)}, wrap(b"ab"), b"", wrap(b"c"), headers=headers) == []
    assert (output.data, output.ended, told) == (b"abc", "close", {"k": "v"})


@pytest.mark.parametrize("number", ["1", "x", "-1", "1234567890"])
def test_what_nobody_wants_is_refused(number: str) -> None:
    targets = {0: ToStream(lambda facts: Memory()), 1234567890: ToStream(lambda facts: Memory())}
    with pytest.raises(RpcError, match="nothing is wanted of exporter") as caught:
        sent(targets, headers={"buildkit_attachable_exporter_id": number})
    assert caught.value.code is Code.NOT_FOUND


def test_an_archive_that_is_none_is_dropped() -> None:
    output = Memory()
    with pytest.raises(RpcError, match="a piece of a stream that cannot be read") as caught:
        sent({0: ToStream(lambda facts: output)}, wrap(b"a"), b"\xff")
    assert (caught.value.code, output.ended) == (Code.INVALID_ARGUMENT, "abort")
    with pytest.raises(RpcError) as caught:
        sent({0: ToStream(lambda facts: None)}, wrap(b"a"))
    assert caught.value.code is Code.ALREADY_EXISTS


def test_a_fault_of_this_machine_is_kept_for_its_user() -> None:
    def fails(facts: Mapping[str, str]) -> ArchiveSink:
        raise OSError(28, "No space left on device")

    faults: list[PybuildError] = []
    with pytest.raises(RpcError, match="cannot write the result: no space left on device"):
        sent({0: ToStream(fails)}, faults=faults)
    assert [fault.message for fault in faults] == [
        "cannot write the result: no space left on device"
    ]


TREE = (encode_stat(Stat(path=b"d", mode=1 << 31 | 0o755)), END_OF_LIST)


@pytest.mark.parametrize(
    ("replaces", "several", "stays"),
    [(False, "1", True), (True, "", True), (True, "0", True), (True, "1", False)],
)
def test_what_was_there_goes_if_both_ends_say_so(
    tmp_path: Path, replaces: bool, several: str, stays: bool
) -> None:
    (tmp_path / "old").touch()
    target = ToDirectory(str(tmp_path), replaces)
    headers = {"buildkit_exporter_multi_platform": several} if several else {}
    assert sent({0: target}, *TREE, headers=headers) == [FIN_PACKET]
    assert sorted(os.listdir(tmp_path)) == (["d", "old"] if stays else ["d"])


def test_a_tree_leaves_what_is_there_alone_unless_it_is_told_otherwise(tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    target = ToDirectory(str(tmp_path))
    sent({0: target}, *TREE, headers={"buildkit_exporter_multi_platform": "1"})
    assert sorted(os.listdir(tmp_path)) == ["d", "old"]


def test_a_tree_leaves_no_descriptor_open(tmp_path: Path) -> None:
    tree_writer(str(tmp_path / "out"), replaces=False).close()
    links = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    assert str(tmp_path / "out") not in links


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([encode_error("disk on fire")], "disk on fire"),
        ([TREE[0]], "the server left in the middle"),
        ([encode_stat(Stat(path=b"../x"))], "is not a clean relative path"),
    ],
)
def test_a_tree_that_breaks_off_is_an_error(
    tmp_path: Path, messages: list[bytes], words: str
) -> None:
    with pytest.raises(RpcError, match=words):
        sent({0: ToDirectory(str(tmp_path / "out"))}, *messages)
    assert sorted(os.listdir(tmp_path)) == ["out"]
