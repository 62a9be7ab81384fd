"""The message classes: what is compiled is current, complete and clashes with nobody's."""

from __future__ import annotations

import importlib
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from pybuild.buildkit.pb import content, control, gateway, ops, times
from pybuild.buildkit.pb.fsutil import Packet, Stat
from pybuild.buildkit.pb.wellknown import Timestamp

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path.stem for path in (ROOT / "buildkit" / "protos").glob("*.proto"))


@pytest.mark.slow
def test_the_compiled_files_are_those_of_the_sources() -> None:
    pytest.importorskip("grpc_tools", reason="the protobuf compiler is a development dependency")
    script = runpy.run_path(str(ROOT / "scripts" / "protos"))
    stale = [path.name for path, data in script["outputs"]() if path.read_bytes() != data]
    assert stale == []


@pytest.mark.parametrize("name", FILES)
def test_every_stub_names_just_what_the_module_has(name: str) -> None:
    module = importlib.import_module(f"pybuild.buildkit.pb.{name}")
    lines = (ROOT / "buildkit" / "pb" / f"{name}.pyi").read_text().splitlines()
    told = {line.split("(")[0].split(":")[0].removeprefix("class ") for line in lines if line}
    for attribute, value in vars(module).items():
        if isinstance(value, (type, int)):
            assert attribute in told, attribute


def test_zero_values_are_absent_on_the_wire() -> None:
    assert Packet(type=Packet.STAT).SerializeToString() == b""
    assert (
        Packet(type=Packet.DATA, ID=300, data=b"x").SerializeToString().hex() == "080218ac02220178"
    )


def test_a_field_with_a_keyword_for_a_name_keeps_its_number() -> None:
    assert ops.Definition(defs=[b"a"]).SerializeToString() == b"\n\x01a"
    assert gateway.Ref(defs=ops.Definition()).SerializeToString() == b"\x12\x00"


def test_oneofs_say_which_is_set() -> None:
    op = ops.Op.FromString(ops.Op(merge=ops.MergeOp()).SerializeToString())
    assert op.WhichOneof("op") == "merge"
    assert ops.Op().WhichOneof("op") is None
    owner = ops.UserOpt(byID=0)
    assert owner.WhichOneof("user") == "byID"


def test_numbers_that_no_enum_names_survive() -> None:
    action = content.WriteContentRequest.FromString(b"\x08\x63").action
    assert action == 99
    assert control.BuildHistoryEvent.FromString(b"\x08\x02").type == control.DELETED


def test_fields_that_we_do_not_know_are_passed_on() -> None:
    unknown = ops.Input(digest="sha256:0").SerializeToString() + b"\xf8\x07\x01"
    assert ops.Input.FromString(unknown).SerializeToString() == unknown


def test_maps_hold_messages_and_numbers() -> None:
    info = control.BuildResultInfo()
    info.Results[7].digest = "sha256:7"
    again = control.BuildResultInfo.FromString(info.SerializeToString())
    assert {key: value.digest for key, value in again.Results.items()} == {7: "sha256:7"}
    assert Stat(xattrs={"user.a": b"\xff"}).xattrs["user.a"] == b"\xff"


@pytest.mark.slow
def test_the_process_wide_pool_may_have_the_same_names() -> None:
    other = descriptor_pb2.FileDescriptorProto(name="ops.proto", package="pb", syntax="proto3")
    other.message_type.add(name="Op").field.add(name="x", number=1, type=9, label=1)
    script = (
        "from pybuild.buildkit.pb import ops; print(ops.Op(merge=ops.MergeOp()).WhichOneof('op'))"
    )
    code = (
        "from google.protobuf import descriptor_pool\n"
        f"descriptor_pool.Default().AddSerializedFile({other.SerializeToString()!r})\n{script}"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert run.stdout.strip() == "merge"


# --- times ---


def test_times_keep_their_nanoseconds_also_before_the_epoch() -> None:
    for nanoseconds in (0, 1, -1, 1_700_000_000_123_456_789, -62_135_596_800 * 10**9):
        message = times.timestamp_ns(nanoseconds)
        assert message.seconds * 10**9 + message.nanos == nanoseconds
    assert times.timestamp_ns(-1).nanos == 999_999_999


def test_a_float_becomes_whole_microseconds() -> None:
    assert times.timestamp(1_700_000_000.1) == Timestamp(seconds=1_700_000_000, nanos=100_000_000)
    assert times.seconds_of(times.timestamp(12.5)) == 12.5


@pytest.mark.parametrize(
    ("nanoseconds", "seconds"), [(10**30, 253_402_300_799), (-(10**30), -62_135_596_800)]
)
def test_times_outside_the_calendar_are_cut(nanoseconds: int, seconds: int) -> None:
    assert times.timestamp_ns(nanoseconds).seconds == seconds
    assert times.rfc3339(nanoseconds).endswith("Z")


def test_the_header_has_all_nine_digits() -> None:
    assert times.rfc3339(1_700_000_000_000_000_001) == "2023-11-14T22:13:20.000000001Z"
