"""Results on their way out: their folders, their images' dates, the places that take them."""

from __future__ import annotations

import asyncio
import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from pybuild.exporter.atomicfile import is_stream, place_of, whole_file, write_whole
from pybuild.exporter.built import CREATED, Built, MadeImage
from pybuild.exporter.export import is_delivered
from pybuild.exporter.files import LocalSink
from pybuild.exporter.output import Output, parse_output
from pybuild.frontend.lowering.interface import Lowered
from pybuild.model.descriptor import OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import InternalError, UsageError, UserError
from pybuild.model.ops import ScratchSource, Vertex
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference
from pybuild.model.snapshot import Snapshot

DESCRIPTOR = Descriptor(OCI_MANIFEST, Digest.of(b"m"), 1, {"a": "b"})
MADE = MadeImage(DESCRIPTOR, Digest.of(b"config"))


def _built(key: str = "", result: Any = None) -> Built:
    lowered = Lowered(
        result=Vertex(ScratchSource()),
        config={},
        base_layer_count=0,
        history=(),
        contexts=frozenset(),
        platform=Platform.parse("linux/arm/v7"),
    )
    return Built(lowered=lowered, result=result or Snapshot(), key=key)


def test_a_folder_has_the_name_of_the_key_or_else_of_the_platform() -> None:
    assert _built().folder == "linux_arm_v7"
    assert _built("linux/amd64").folder == "linux_amd64"
    assert _built("../..").folder == ".._.."
    for key in (".", "..", "a\0b"):
        with pytest.raises(UserError, match="cannot be a directory$"):
            _ = _built(key).folder


def test_a_result_that_is_no_tree_is_a_fault_of_ours() -> None:
    snapshot = Snapshot(("d",))
    assert _built(result=snapshot).snapshot is snapshot
    with pytest.raises(InternalError, match="^the result of a build is str$"):
        _ = _built(result="text").snapshot


def test_an_image_is_dated_where_its_time_is_fixed() -> None:
    assert MADE.dated is DESCRIPTOR
    for epoch, text in ((0, "1970-01-01T00:00:00Z"), (1, "1970-01-01T00:00:01Z")):
        dated = replace(MADE, epoch=epoch).dated
        assert dated.annotations == {"a": "b", CREATED: text}
        assert dated.digest == DESCRIPTOR.digest


def test_the_metadata_of_an_image() -> None:
    bare = MADE.metadata([])
    assert bare == {
        "containerimage.config.digest": MADE.image_id,
        "containerimage.descriptor": DESCRIPTOR.to_json(),
        "containerimage.digest": DESCRIPTOR.digest,
    }
    names = [Reference.parse(text) for text in ("a:1", "b:2")]
    named = MADE.metadata(names)
    assert named == {**bare, "image.name": "docker.io/library/a:1,docker.io/library/b:2"}


@pytest.mark.parametrize(
    ("types", "is_wanted"),
    [
        ([], False),
        (["cacheonly"], False),
        (["cacheonly", "image"], True),
        (["tar"], True),
    ],
)
def test_results_are_wanted_by_any_output_but_a_cache(types: list[str], is_wanted: bool) -> None:
    assert is_delivered([Output(type=kind) for kind in types]) is is_wanted


def test_what_cannot_be_taken_back_is_a_stream(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    expected = {"file": False, "": False, "none": False, "pipe": True}
    assert {name: is_stream(str(tmp_path / name)) for name in expected} == expected
    assert is_stream("-")
    assert is_stream("/dev/null")
    sink = LocalSink(cast(Any, None))
    assert not sink.is_repeatable(parse_output("type=tar"))
    assert sink.is_repeatable(parse_output(f"type=tar,dest={tmp_path}/file"))


def test_the_title_of_an_output_says_where_it_goes() -> None:
    sink = LocalSink(cast(Any, None))
    assert sink.title(parse_output("type=docker")) == "exporting to docker engine"
    assert sink.title(parse_output("type=docker,dest=x")) == "exporting to docker image format"
    assert sink.title(parse_output("type=oci")) == "exporting to oci image format"


def test_a_file_of_a_sink_is_there_when_all_of_it_is(tmp_path: Path) -> None:
    place = tmp_path / "t"

    async def work(fd: int) -> None:
        os.write(fd, b"data")
        assert not place.exists()

    async def fails(fd: int) -> None:
        os.write(fd, b"half")
        raise UserError("no")

    sink, output = LocalSink(cast(Any, None)), parse_output(f"type=tar,dest={place}")
    with pytest.raises(UserError, match="no"):
        asyncio.run(sink.file(output, fails, cast(Any, None)))
    assert os.listdir(tmp_path) == []
    asyncio.run(sink.file(output, work, cast(Any, None)))
    assert place.read_bytes() == b"data"
    assert os.listdir(tmp_path) == ["t"]


def test_small_files_are_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text in ("sha256:…\n", "", "x" * 100_000):
        write_whole("iid", text)
        assert (tmp_path / "iid").read_text(encoding="utf-8") == text
    assert os.listdir(tmp_path) == ["iid"]


def test_a_file_may_take_a_name_but_a_device_or_pipe_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    assert place_of(f"{tmp_path}/new") == (f"{tmp_path}/new", True)
    assert place_of(f"{tmp_path}/link") == (f"{tmp_path}/file", True)
    assert place_of(f"{tmp_path}/pipe") == (f"{tmp_path}/pipe", False)
    assert place_of("/dev/null") == ("/dev/null", False)
    with pytest.raises(UsageError, match=f"^output destination {tmp_path} is a directory$"):
        place_of(str(tmp_path))
    with pytest.raises(UsageError, match=f"^output directory {tmp_path}/none does not exist$"):
        place_of(f"{tmp_path}/none/x")


class Stream(io.StringIO):
    """Standard output; a terminal or not."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self.is_terminal = is_terminal
        self.flushes = 0

    def isatty(self) -> bool:
        return self.is_terminal

    def flush(self) -> None:
        self.flushes += 1


def test_standard_output_is_written_to_after_what_was_printed_and_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipe, terminal = Stream(is_terminal=False), Stream(is_terminal=True)
    monkeypatch.setattr("sys.stdout", pipe)
    with whole_file("-") as fd:
        assert (fd, pipe.flushes) == (1, 1)
    monkeypatch.setattr("sys.stdout", terminal)
    refused = pytest.raises(UsageError, match="refusing to write a tar file to a terminal$")
    with refused, whole_file("-"):
        pass
