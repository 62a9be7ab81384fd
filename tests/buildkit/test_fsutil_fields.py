"""Packets of the tree protocol, and modes and attributes as Go has them."""

from __future__ import annotations

import pytest

from pybuild.buildkit.fsutil import gomode, packet
from pybuild.buildkit.fsutil.attributes import is_own
from pybuild.buildkit.fsutil.packet import (
    MalformedPacket,
    Stat,
    decode,
    encode_data,
    encode_request,
    encode_stat,
    plain_data,
    uvarint,
)
from pybuild.buildkit.fsutil.sender import stat_entry

# --- packets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (0, b"\0"),
        (0x7F, b"\x7f"),
        (0x80, b"\x80\x01"),
        (300, b"\xac\x02"),
        (1 << 14, b"\x80\x80\x01"),
        ((1 << 64) - 1, b"\xff" * 9 + b"\x01"),
    ],
)
def test_numbers_have_seven_bits_a_byte(value: int, data: bytes) -> None:
    assert uvarint(value) == data
    assert decode(b"\x18" + data).id == value & 0xFFFFFFFF


@pytest.mark.parametrize("id", [0, 1, 127, 128, 2**32 - 1])
@pytest.mark.parametrize("size", [1, 127, 128, 300])
def test_data_are_found_without_reading_the_packet(id: int, size: int) -> None:
    message = encode_data(id, b"x" * size)
    found = plain_data(message)
    assert found is not None
    assert (found[0], message[found[1] :]) == (id, b"x" * size)
    end = encode_data(id, b"")
    assert plain_data(end) == (id, len(end))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x08",
        b"\x08\x01",
        b"\x18\x01\x08\x02",
        b"\x08\x02\x18",
        b"\x08\x02\x22",
        b"\x08\x02\x22\x00",
        b"\x08\x02\x22\x02a",
        b"\x08\x02\x22\x01ab",
        b"\x08\x02\x30\x01",
        b"\x08\x02\x18" + b"\xff" * 11,
    ],
)
def test_whatever_else_is_for_the_whole_reader(message: bytes) -> None:
    assert plain_data(message) is None


def test_the_last_of_several_fields_counts_and_ids_have_32_bits() -> None:
    found = decode(b"\x08\x01\x08\x02\x18\x05\x18\x87\x80\x80\x80\x10\x22\x01a\x22\x02bc")
    assert (found.type, found.id, bytes(found.data)) == (2, 7, b"bc")


@pytest.mark.parametrize(
    "data",
    [
        b"\x12\x03\x52\x05a",  # an attribute longer than its entry
        b"\x12\x04\x52\x02\x0a\x05",  # a name longer than its attribute
        b"\x1a\x05ab",  # a field of the future that is cut
        b"\x7d\0\0\0",
        b"\x79" + bytes(7),
        b"\x78",
        b"\x0c",
        b"\x80\x80\x80\x80\x10\x00",  # a field's number of more than 29 bits
    ],
)
def test_packets_that_are_cut_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedPacket):
        decode(data)


def test_an_entry_has_all_its_fields_and_none_of_the_future() -> None:
    full = Stat(
        path=b"p", mode=gomode.SYMLINK | 0o777, uid=1, gid=2, size=3, mtime_ns=-4, linkname=b"l",
        devmajor=5, devminor=-6, xattrs={b"user.b": b"2", b"user.a": b""},
    )  # fmt: skip
    assert decode(encode_stat(full)).stat == full
    inner = b"\x0a\x01p" + b"\x78\x05" + b"\x7a\x01z" + b"\x52\x08\x0a\x01n\x12\x01v\x18\x01"
    found = decode(b"\x12" + uvarint(len(inner)) + inner).stat
    assert found == Stat(path=b"p", xattrs={b"n": b"v"})
    assert encode_stat(Stat(path=b"p")) == b"\x12\x03\x0a\x01p"


def test_only_what_is_set_is_written() -> None:
    assert encode_request(0) == b"\x08\x01" and encode_request(300) == b"\x08\x01\x18\xac\x02"
    assert encode_data(0, b"") == b"\x08\x02" and encode_data(1, b"") == b"\x08\x02\x18\x01"
    assert packet.encode_error("é\udcff") == b"\x08\x04\x22\x03\xc3\xa9?"


# --- modes and attributes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "go"),
    [
        (0o100644, 0o644),
        (0o40755, 1 << 31 | 0o755),
        (0o120777, 1 << 27 | 0o777),
        (0o60600, 1 << 26 | 0o600),
        (0o20600, 1 << 26 | 1 << 21 | 0o600),
        (0o10600, 1 << 25 | 0o600),
        (0o140600, 1 << 24 | 0o600),
        (0o104755, 1 << 23 | 0o755),
        (0o102755, 1 << 22 | 0o755),
        (0o41777, 1 << 31 | 1 << 20 | 0o777),
    ],
)
def test_modes_are_those_of_go(kernel: int, go: int) -> None:
    assert gomode.to_go(kernel) == go and gomode.to_kernel(go) == kernel


@pytest.mark.parametrize(
    ("name", "own"),
    [
        (b"security.capability", True),
        (b"user.mark", True),
        (b"user.overlay.opaque", False),
        (b"user.com.apple.x", False),
        (b"security.selinux", False),
        (b"trusted.x", False),
        (b"username", False),
    ],
)
def test_attributes_of_a_machine_are_not_the_files(name: bytes, own: bool) -> None:
    assert is_own(name) is own


@pytest.mark.parametrize(
    ("mode", "kept"),
    [(0o100644, 5), (0o120777, 5), (0o40755, 0), (0o10600, 0), (0o20600, 0)],
)
def test_files_and_links_have_a_size(mode: int, kept: int) -> None:
    assert stat_entry(b"x", mode, 5, 7) == Stat(
        path=b"x", mode=gomode.to_go(mode), size=kept, mtime_ns=7
    )
