"""Packets by hand are those of the generic classes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.buildkit.fsutil import gomode, packet
from pybuild.buildkit.fsutil.packet import MalformedPacket, Stat, decode
from pybuild.buildkit.pb import fsutil as pb

_NAMES = st.text(st.characters(codec="utf-8"), max_size=20)
_I64 = st.integers(-(1 << 63), (1 << 63) - 1)
_U32 = st.integers(0, (1 << 32) - 1)
_STATS = st.builds(
    Stat,
    path=_NAMES.map(str.encode),
    mode=_U32,
    uid=_U32,
    gid=_U32,
    size=_I64,
    mtime_ns=_I64,
    linkname=_NAMES.map(str.encode),
    devmajor=_I64,
    devminor=_I64,
    xattrs=st.dictionaries(_NAMES.map(str.encode), st.binary(max_size=8), max_size=3),
)


def _generic(stat: Stat) -> pb.Packet:
    return pb.Packet(
        stat=pb.Stat(
            path=stat.path.decode(),
            mode=stat.mode,
            uid=stat.uid,
            gid=stat.gid,
            size=stat.size,
            modTime=stat.mtime_ns,
            linkname=stat.linkname.decode(),
            devmajor=stat.devmajor,
            devminor=stat.devminor,
            xattrs={name.decode(): value for name, value in stat.xattrs.items()},
        )
    )


@pytest.mark.slow
@given(_STATS)
def test_an_entry_is_read_and_written_as_the_generic_classes_do(stat: Stat) -> None:
    assert pb.Packet.FromString(packet.encode_stat(stat)) == _generic(stat)
    found = decode(_generic(stat).SerializeToString())
    assert (found.type, found.stat) == (packet.STAT, stat)


@pytest.mark.slow
@given(_U32, st.binary(max_size=300))
def test_data_requests_and_the_end_are_those_of_the_generic_classes(id: int, data: bytes) -> None:
    generic = pb.Packet(type=pb.Packet.DATA, ID=id, data=data)
    assert packet.encode_data(id, data) == generic.SerializeToString()
    found = decode(generic.SerializeToString())
    assert (found.type, found.id, bytes(found.data)) == (packet.DATA, id, data)
    assert packet.encode_request(id) == pb.Packet(type=pb.Packet.REQ, ID=id).SerializeToString()
    assert pb.Packet(type=pb.Packet.FIN).SerializeToString() == packet.FIN_PACKET
    error = pb.Packet(type=pb.Packet.ERR, data=b"no")
    assert packet.encode_error("no") == error.SerializeToString()


def test_the_end_of_the_list_is_an_empty_message() -> None:
    found = decode(packet.END_OF_LIST)
    assert (found.type, found.id, found.stat) == (packet.STAT, 0, None)


def test_names_need_not_be_text() -> None:
    stat = Stat(path=b"\xff\xfe")
    assert decode(packet.encode_stat(stat)).stat == stat


def test_fields_of_the_future_are_skipped() -> None:
    future = b"\x78\x96\x01" + b"\x7a\x02ab" + b"\x7d\0\0\0\0" + b"\x79" + bytes(8)
    assert decode(future + packet.encode_request(7)).id == 7


@settings(max_examples=15)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_packet_or_malformed(data: bytes) -> None:
    try:
        decode(data)
    except MalformedPacket:
        pass


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x08", id="no-number"),
        pytest.param(b"\x22\x05ab", id="data-cut-short"),
        pytest.param(b"\x12\x03\x0a\x09a", id="path-longer-than-its-entry"),
        pytest.param(b"\x08" + b"\xff" * 11, id="number-without-end"),
        pytest.param(b"\x0b", id="group"),
        pytest.param(b"\x00\x00", id="field-zero"),
        pytest.param(b"\x7a\x05a", id="unknown-field-cut-short"),
    ],
)
def test_damaged_packets_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedPacket):
        decode(data)


@pytest.mark.parametrize("mode", [0o100644, 0o40755, 0o120777, 0o10600, 0o140700, 0o20666, 0o60660])
@pytest.mark.parametrize("bits", [0, 0o4000, 0o2000, 0o1000, 0o7000])
def test_modes_go_there_and_back(mode: int, bits: int) -> None:
    assert gomode.to_kernel(gomode.to_go(mode | bits)) == mode | bits


def test_a_type_that_is_no_type_is_refused() -> None:
    with pytest.raises(ValueError, match="no known file type"):
        gomode.to_kernel(gomode.DIRECTORY | gomode.SYMLINK)
    with pytest.raises(ValueError, match="no known file type"):
        gomode.to_kernel(gomode.IRREGULAR)
