"""The parts of a transfer by themselves: packets, modes, both ends, open directories [remote-api 5]."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

import pytest

from pybuild.buildkit.fsutil import gomode, packet
from pybuild.buildkit.fsutil.attributes import is_own
from pybuild.buildkit.fsutil.followed import followed
from pybuild.buildkit.fsutil.opendirs import OpenDirs
from pybuild.buildkit.fsutil.packet import (
    END_OF_LIST,
    FIN_PACKET,
    MalformedPacket,
    Stat,
    decode,
    encode_data,
    encode_request,
    encode_stat,
    plain_data,
    uvarint,
)
from pybuild.buildkit.fsutil.receiver import BadEntry, Bounds, PeerFailed, Receiver, shown
from pybuild.buildkit.fsutil.sender import PIECE, Sender, stat_entry
from pybuild.buildkit.fsutil.walk import Walk
from pybuild.buildkit.fsutil.writer import TreeWriter

FILE, DIR = 0o644, gomode.DIRECTORY | 0o755

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


# --- the receiving end ----------------------------------------------------------------------------


class Recorder:
    """A sink that wants all files and writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []

    def entry(self, id: int, stat_: Stat, mode: int) -> bool:
        self.heard.append(("entry", id, stat_.path, mode))
        return stat.S_ISREG(mode) and not stat_.linkname

    def data(self, id: int, pieces: list[memoryview]) -> None:
        self.heard.append(("data", id, [bytes(piece) for piece in pieces]))

    def end(self, id: int) -> None:
        self.heard.append(("end", id))

    def listed(self) -> None:
        self.heard.append(("listed",))


def entry(path: bytes, mode: int = FILE, size: int = 0, link: bytes = b"") -> bytes:
    return encode_stat(Stat(path=path, mode=mode, size=size, linkname=link))


def fed(bounds: Bounds, *messages: bytes) -> Receiver:
    receiver = Receiver(Recorder(), bounds)
    receiver.feed(messages)
    return receiver


def test_a_transfer_from_its_first_packet_to_its_last() -> None:
    sink = Recorder()
    receiver = Receiver(sink)
    folder, first = entry(b"d", DIR), entry(b"d/f", size=3)
    assert receiver.feed([folder, first, entry(b"e", size=1)]) == [
        encode_request(1),
        encode_request(2),
    ]
    assert receiver.feed([END_OF_LIST]) == []
    assert receiver.feed([encode_data(1, b"ab"), encode_data(2, b"x"), encode_data(1, b"c")]) == []
    assert receiver.feed([encode_data(2, b"")]) == []
    assert receiver.feed([encode_data(1, b"")]) == [FIN_PACKET]
    assert not receiver.finished
    assert receiver.feed([FIN_PACKET]) == [] and receiver.finished
    assert sink.heard == [
        ("entry", 0, b"d", 0o40755),
        ("entry", 1, b"d/f", 0o100644),
        ("entry", 2, b"e", 0o100644),
        ("listed",),
        ("data", 1, [b"ab"]),
        ("data", 2, [b"x"]),
        ("data", 1, [b"c"]),
        ("end", 2),
        ("end", 1),
    ]
    assert (receiver.entries, receiver.requested, receiver.received) == (3, 2, 4)
    assert receiver.short == []
    for late in (FIN_PACKET, entry(b"z")):
        with pytest.raises(BadEntry, match="a packet after the last one"):
            receiver.feed([late])


def test_an_empty_tree_ends_at_once() -> None:
    receiver = Receiver(Recorder())
    assert receiver.feed([END_OF_LIST]) == [FIN_PACKET]
    assert receiver.feed([]) == []
    assert receiver.feed([FIN_PACKET]) == [] and receiver.finished


def test_pieces_of_a_file_are_handed_on_together() -> None:
    sink = Recorder()
    receiver = Receiver(sink)
    receiver.feed([entry(b"f", size=100)])
    receiver.feed([encode_data(0, b"x")] * 65 + [encode_data(0, b"")])
    assert sink.heard[1:] == [("data", 0, [b"x"] * 64), ("data", 0, [b"x"]), ("end", 0)]
    assert receiver.short == [b"f"] and receiver.received == 65


def test_data_in_another_form_count_as_well() -> None:
    sink = Recorder()
    receiver = Receiver(sink)
    receiver.feed([entry(b"f", size=1), b"\x22\x01a\x08\x02", b"\x18\x00\x08\x02"])
    assert sink.heard[1:] == [("data", 0, [b"a"]), ("end", 0)]


def test_each_bound_lets_the_last_one_through() -> None:
    fed(Bounds(entries=2), entry(b"a"), entry(b"b"))
    with pytest.raises(BadEntry, match="more than 2 entries"):
        fed(Bounds(entries=2), entry(b"a"), entry(b"b"), entry(b"c"))
    deep = [entry(b"a", DIR), entry(b"a/b", DIR), entry(b"a/b/c")]
    fed(Bounds(depth=3), *deep)
    with pytest.raises(BadEntry, match="deeper than 2 directories"):
        fed(Bounds(depth=2), *deep)
    fed(Bounds(path=4), entry(b"abcd"))
    with pytest.raises(BadEntry, match="a path of more than 4 bytes: 'abcde'"):
        fed(Bounds(path=4), entry(b"abcde"))
    link = entry(b"l", gomode.SYMLINK | 0o777, link=b"12345")
    fed(Bounds(path=5, names=6), link)
    with pytest.raises(BadEntry, match="a path of more than 4 bytes"):
        fed(Bounds(path=4), link)
    with pytest.raises(BadEntry, match="more than 5 bytes of paths"):
        fed(Bounds(names=5), link)
    grown = [entry(b"f", size=2), encode_data(0, b"x" * 5)]
    assert fed(Bounds(growth=3), *grown).received == 5
    with pytest.raises(BadEntry, match="'f' grows while it is sent"):
        fed(Bounds(growth=2), *grown)
    noted = encode_stat(Stat(path=b"a", xattrs={b"user.a": b"12", b"user.b": b"3"}))
    fed(Bounds(attributes=3), noted)
    with pytest.raises(BadEntry, match="'a' has too many attributes"):
        fed(Bounds(attributes=2), noted)
    open_ = [entry(b"a", size=1), entry(b"b", size=1), encode_data(0, b"x"), encode_data(1, b"x")]
    fed(Bounds(open_files=2), *open_)
    with pytest.raises(BadEntry, match="data of more than 1 files at once"):
        fed(Bounds(open_files=1), *open_)
    ended = [*open_[:3], encode_data(0, b""), encode_data(1, b"x")]
    fed(Bounds(open_files=1), *ended)


def test_the_usual_bounds_are_those_of_linux() -> None:
    bounds = Bounds()
    assert (bounds.path, bounds.depth, bounds.open_files) == (4095, 255, 64)
    assert (bounds.entries, bounds.names) == (1 << 21, 512 << 20)
    assert (bounds.growth, bounds.attributes) == (64 << 20, 1 << 20)
    fed(bounds, entry(b"a" * 255))


@pytest.mark.parametrize(
    ("major", "minor", "fits"),
    [
        (0, 0, True),
        (4095, (1 << 20) - 1, True),
        (4096, 0, False),
        (0, 1 << 20, False),
        (0, -1, False),
    ],
)
@pytest.mark.parametrize("kind", [gomode.DEVICE, gomode.DEVICE | gomode.CHARACTER])
def test_devices_have_numbers_that_there_are(kind: int, major: int, minor: int, fits: bool) -> None:
    message = encode_stat(Stat(path=b"d", mode=kind | 0o600, devmajor=major, devminor=minor))
    if fits:
        fed(Bounds(), message)
        return
    with pytest.raises(BadEntry, match=f"'d' is device {major}:{minor}"):
        fed(Bounds(), message)


def test_a_link_repeats_a_file_that_came_before_it() -> None:
    fed(Bounds(), entry(b"a"), entry(b"b", link=b"a"), entry(b"c", link=b"a"))
    with pytest.raises(BadEntry, match="'c' is a hard link to 'b', which was not sent before it"):
        fed(Bounds(), entry(b"a"), entry(b"b", link=b"a"), entry(b"c", link=b"b"))
    with pytest.raises(BadEntry, match="is a link to nothing"):
        fed(Bounds(), entry(b"l", gomode.SYMLINK, link=b"a\0b"))


def test_directories_are_left_and_not_entered_again() -> None:
    fed(Bounds(), entry(b"a", DIR), entry(b"a/b", DIR), entry(b"a/b/c"), entry(b"a/d"), entry(b"e"))
    with pytest.raises(BadEntry, match="lies in no directory"):
        fed(Bounds(), entry(b"a", DIR), entry(b"b", DIR), entry(b"c/d"))


def test_what_a_peer_says_is_cut_and_reaches_no_terminal() -> None:
    with pytest.raises(PeerFailed) as caught:
        fed(Bounds(), packet.encode_error("x" * 600))
    assert str(caught.value) == "x" * 512
    assert shown(b"a\x1b[0m\xff") == r"'a\x1b[0m\ufffd'"
    assert len(shown(b"x" * 1000)) == 300


# --- the sending end ------------------------------------------------------------------------------


def test_a_sender_says_all_it_has_and_then_waits() -> None:
    files = {b"f": b"abc", b"g": b""}
    entries = [
        Stat(path=b"d", mode=DIR),
        Stat(path=b"f", mode=FILE, size=3),
        Stat(path=b"g", mode=FILE),
        Stat(path=b"h", mode=FILE, linkname=b"f"),
    ]
    sender = Sender(entries, lambda path: io.BytesIO(files[path]))
    assert sender.has_work
    assert sender.produce() == [*map(encode_stat, entries), END_OF_LIST]
    assert not sender.has_work and sender.produce() == []
    sender.feed([encode_request(2), encode_request(1)])
    assert sender.has_work
    assert sender.produce() == [
        encode_data(2, b""),
        encode_data(1, b"abc"),
        encode_data(1, b""),
    ]
    assert (sender.sent, sender.finished, sender.has_work) == (3, False, False)
    for number in (0, 3):
        with pytest.raises(BadEntry, match=f"a request for {number}, which is no file or was sent"):
            sender.feed([encode_request(number)])
    sender.feed([FIN_PACKET])
    assert sender.has_work and sender.produce() == [FIN_PACKET]
    assert sender.finished and not sender.has_work and sender.produce() == []


def test_packets_are_made_as_far_as_the_budget_goes() -> None:
    entries = [Stat(path=b"%d" % number, mode=FILE) for number in range(10)]
    size = len(encode_stat(entries[0])) + 64
    sender = Sender(entries, lambda path: io.BytesIO())
    assert len(sender.produce(1)) == 1
    assert len(sender.produce(2 * size)) == 2
    assert len(sender.produce(2 * size + 1)) == 3
    assert sender.produce(0) == [] and len(sender.produce()) == 5


def test_a_file_is_sent_as_long_as_its_entry_said() -> None:
    def sent(size: int, data: bytes) -> list[bytes]:
        sender = Sender([Stat(path=b"f", mode=FILE, size=size)], lambda path: io.BytesIO(data))
        sender.produce()
        sender.feed([encode_request(0)])
        return [bytes(decode(message).data) for message in sender.produce()]

    assert sent(2, b"abcdef") == [b"ab", b""]
    assert sent(6, b"ab") == [b"ab", b""]
    assert sent(0, b"ab") == [b"ab", b""]
    assert [len(piece) for piece in sent(PIECE + 1, bytes(PIECE + 1))] == [PIECE, 1, 0]


def test_a_file_that_cannot_be_read_to_its_end_ends_there() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell():
                raise OSError(errno.EIO, "no")
            return super().read(1)

    source = Broken(b"abc")
    sender = Sender([Stat(path=b"f", mode=FILE, size=3)], lambda path: source)
    sender.produce()
    sender.feed([encode_request(0)])
    assert sender.produce() == [encode_data(0, b"a"), encode_data(0, b"")]
    assert source.closed and not sender.has_work


def test_a_sender_that_is_closed_lets_go_of_its_file() -> None:
    source = io.BytesIO(bytes(10))
    sender = Sender([Stat(path=b"f", mode=FILE, size=10)], lambda path: source)
    sender.produce()
    sender.feed([encode_request(0)])
    sender.produce(1)
    assert not source.closed
    sender.close()
    sender.close()
    assert source.closed


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"\x08\x09", "a packet of type 9 from the receiving end"),
        (encode_data(0, b"x"), "data from the receiving end"),
    ],
)
def test_a_receiver_sends_requests_alone(message: bytes, words: str) -> None:
    with pytest.raises(BadEntry) as caught:
        Sender([], lambda path: io.BytesIO()).feed([message])
    assert str(caught.value) == words
    with pytest.raises(PeerFailed, match=r"\Ax{512}\Z"):
        Sender([], lambda path: io.BytesIO()).feed([packet.encode_error("x" * 600)])


# --- directories ----------------------------------------------------------------------------------


def test_directories_stay_open_until_they_are_forgotten(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "ab").mkdir()
    (tmp_path / "f").touch()
    (tmp_path / "l").symlink_to("a")
    dirs = OpenDirs(str(tmp_path))
    try:
        assert os.path.samestat(os.fstat(dirs.get(b"")), os.stat(tmp_path))
        fds = {path: dirs.get(path) for path in (b"a", b"a/b", b"ab")}
        assert {path: dirs.get(path) for path in fds} == fds
        for path in (b"f", b"l", b"l/b"):
            with pytest.raises(BadEntry, match="is a directory no more"):
                dirs.get(path)
        with pytest.raises(FileNotFoundError):
            dirs.get(b"none")
        dirs.forget(b"a")
        for path in (b"a", b"a/b"):
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fds[path])
        os.fstat(fds[b"ab"])
    finally:
        dirs.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fds[b"ab"])
    dirs.close()


def test_the_directory_that_was_not_needed_longest_is_closed(tmp_path: Path) -> None:
    names = [b"%03d" % number for number in range(65)]
    for name in names:
        (tmp_path / name.decode()).mkdir()
    dirs = OpenDirs(str(tmp_path))
    try:
        fds = [dirs.get(name) for name in names[:64]]
        dirs.get(names[0])
        dirs.get(names[64])
        os.fstat(fds[0])
        os.fstat(fds[2])
        assert dirs.get(names[0]) == fds[0]
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fds[1])
    finally:
        dirs.close()


def test_links_are_followed_inside_the_root_alone(tmp_path: Path) -> None:
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "d/f").touch()
    (tmp_path / "d/*").touch()
    for name, target in (("up", "../../../d/f"), ("abs", "/d/./e"), ("star", "d/*"), ("two", "up")):
        (tmp_path / name).symlink_to(target)
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for paths, expected in (
            (["up"], ["d/f", "up"]),
            (["two"], ["d/f", "two", "up"]),
            (["abs/x"], ["abs", "d/e/x"]),
            (["star"], ["d/\\*", "star"]),
            (["d/*"], ["d/\\*", "d/e", "d/f"]),
            (["d/e/../f"], ["d/f"]),
            (["none/*", "./d//f/"], ["d/f"]),
            (["/"], [""]),
            ([], []),
        ):
            assert followed(root, paths) == expected
    finally:
        os.close(root)


# --- the writer -----------------------------------------------------------------------------------


def sent_to(root: Path, *entries: Stat, content: bytes = b"x", **options: bool) -> TreeWriter:
    writer = TreeWriter(str(root), **options)  # type: ignore[arg-type]
    try:
        sender = Sender(entries, lambda path: io.BytesIO(content))
        receiver = Receiver(writer)
        while not (receiver.finished and sender.finished):
            sender.feed(receiver.feed(sender.produce()))
        writer.finish()
    finally:
        writer.close()
    return writer


def test_what_was_not_sent_goes_unless_trees_are_merged(tmp_path: Path) -> None:
    for name in ("old", "d"):
        (tmp_path / name).mkdir()
    (tmp_path / "d/old").touch()
    entries = (Stat(path=b"d", mode=DIR), Stat(path=b"d/f", mode=FILE, size=1, mtime_ns=1))
    writer = sent_to(tmp_path, *entries, merge=True)
    assert (writer.written, writer.removed) == (1, 0)
    assert sorted(os.listdir(tmp_path / "d")) == ["f", "old"] and (tmp_path / "old").is_dir()
    writer = sent_to(tmp_path, *entries)
    assert (writer.written, writer.removed) == (0, 2)
    assert os.listdir(tmp_path) == ["d"] and os.listdir(tmp_path / "d") == ["f"]


def test_a_directory_in_the_way_of_a_merge_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "d/f").mkdir(parents=True)
    entries = (Stat(path=b"d", mode=DIR), Stat(path=b"d/f", mode=FILE, size=1))
    with pytest.raises(BadEntry, match="'d/f', but a directory of that name is in the way"):
        sent_to(tmp_path, *entries, merge=True)
    assert sent_to(tmp_path, *entries).written == 1
    assert (tmp_path / "d/f").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("size", "mtime_ns", "strict", "written"),
    [
        (1, 5, False, 0),
        (1, 6, False, 1),
        (2, 5, False, 1),
        (1, 5, True, 0),
        (1, 2 * 10**9, False, 0),
        (1, 2 * 10**9, True, 1),
    ],
)
def test_a_file_is_the_same_by_size_and_time(
    tmp_path: Path, size: int, mtime_ns: int, strict: bool, written: int
) -> None:
    there = tmp_path / "f"
    there.write_bytes(b"x")
    stamp = mtime_ns if not mtime_ns % 10**9 else 5
    os.utime(there, ns=(stamp, stamp))
    entry = Stat(path=b"f", mode=FILE, size=size, mtime_ns=mtime_ns)
    assert sent_to(tmp_path, entry, strict=strict).written == written
    assert there.stat().st_mtime_ns == mtime_ns


def test_powers_of_an_owner_stay_where_he_does(tmp_path: Path) -> None:
    mine = Stat(path=b"a", mode=gomode.SETUID | 0o755, size=1, uid=os.geteuid(), gid=os.getegid())
    other = Stat(path=b"b", mode=gomode.SETUID | 0o755, size=1, uid=os.geteuid() + 1)
    third = Stat(path=b"c", mode=gomode.SETGID | 0o755, size=1, gid=os.getegid() + 1)
    sent_to(tmp_path, mine, other, third, own=False)
    modes = [(tmp_path / name).stat().st_mode & 0o7777 for name in "abc"]
    assert modes == [0o4755, 0o755, 0o755]


def test_links_and_times_of_directories_are_right_in_the_end(tmp_path: Path) -> None:
    entries = (
        Stat(path=b"d", mode=gomode.DIRECTORY | 0o500, mtime_ns=7),
        Stat(path=b"d/f", mode=FILE, size=1, mtime_ns=8),
        Stat(path=b"e", mode=FILE, size=1, linkname=b"d/f"),
        Stat(path=b"l", mode=gomode.SYMLINK | 0o777, linkname=b"d", mtime_ns=9),
    )
    for written in (1, 0):
        assert sent_to(tmp_path, *entries).written == written
        assert (tmp_path / "d").stat().st_mtime_ns == 7
        assert (tmp_path / "d").stat().st_mode & 0o777 == 0o500
        assert os.path.samefile(tmp_path / "e", tmp_path / "d/f")
        assert os.readlink(tmp_path / "l") == "d"
        assert os.lstat(tmp_path / "l").st_mtime_ns == 9
    changed = (*entries[:3], Stat(path=b"l", mode=gomode.SYMLINK | 0o777, linkname=b"e"))
    sent_to(tmp_path, *changed)
    assert os.readlink(tmp_path / "l") == "e"


def test_a_pipe_is_the_same_by_kind_mode_and_time(tmp_path: Path) -> None:
    def sent(mode: int, mtime_ns: int) -> int:
        sent_to(tmp_path, Stat(path=b"p", mode=gomode.FIFO | mode, mtime_ns=mtime_ns))
        found = os.lstat(tmp_path / "p")
        assert (stat.S_ISFIFO(found.st_mode), found.st_mtime_ns) == (True, mtime_ns)
        assert found.st_mode & 0o777 == mode
        # The number of a file that is gone may be given again: a name of ours keeps it.
        os.link(tmp_path / "p", tmp_path.parent / f"p{mtime_ns}-{mode}-{len(kept)}")
        kept.append(found.st_ino)
        return found.st_ino

    kept: list[int] = []
    first = sent(0o640, 7)
    assert sent(0o640, 7) == first
    other = sent(0o600, 7)
    assert other != first
    assert sent(0o600, 8) != other


def test_a_file_that_is_half_there_is_closed(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    writer = TreeWriter(str(tmp_path))
    receiver = Receiver(writer)
    sender = Sender(
        [Stat(path=b"f", mode=FILE, size=1 << 20)], lambda path: io.BytesIO(bytes(1 << 20))
    )
    for _ in range(3):
        sender.feed(receiver.feed(sender.produce()))
    assert not receiver.finished
    writer.close()
    del writer, receiver, sender
    assert set(os.listdir("/proc/self/fd")) == before


def test_sockets_are_counted_and_left_out(tmp_path: Path) -> None:
    writer = sent_to(tmp_path, Stat(path=b"s", mode=gomode.SOCKET | 0o600))
    assert (writer.skipped, os.listdir(tmp_path)) == (1, [])


# --- the walk -------------------------------------------------------------------------------------


def test_a_walk_tells_of_each_kind_what_belongs_to_it(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o700)
    (tmp_path / "d/f").write_bytes(b"abc")
    (tmp_path / "d/f").chmod(0o600)
    (tmp_path / "g").symlink_to("d/f")
    os.link(tmp_path / "d/f", tmp_path / "h")
    for name in ("d/f", "d"):
        os.utime(tmp_path / name, ns=(1, 5))
    os.utime(tmp_path / "g", ns=(1, 6), follow_symlinks=False)

    def walked(**options: bool) -> list[Stat]:
        with Walk(str(tmp_path), **options) as walk:  # type: ignore[arg-type]
            return list(walk.entries())

    assert walked() == [
        Stat(path=b"d", mode=gomode.DIRECTORY | 0o700, mtime_ns=5),
        Stat(path=b"d/f", mode=0o600, size=3, mtime_ns=5),
        Stat(path=b"g", mode=gomode.SYMLINK | 0o777, size=3, mtime_ns=6, linkname=b"d/f"),
        Stat(path=b"h", mode=0o600, size=3, mtime_ns=5, linkname=b"d/f"),
    ]
    assert [entry.mode & 0o777 for entry in walked(git_modes=True)] == [0o755, 0o644, 0o777, 0o644]
    owners = {(entry.uid, entry.gid) for entry in walked(keep_owners=True)}
    status = os.stat(tmp_path)
    assert owners == {(status.st_uid, status.st_gid)}


def test_a_listed_file_is_opened_without_following_links(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_bytes(b"abc")
    (tmp_path / "l").symlink_to("d")
    (tmp_path / "m").symlink_to("d/f")
    with Walk(str(tmp_path)) as walk:
        file = walk.open(b"d/f")
        assert (file.read(2), file.read(2), file.read(2)) == (b"ab", b"c", b"")
        file.close()
        file.close()
        for path in (b"l/f", b"m", b"none"):
            with pytest.raises(OSError):
                walk.open(path)


@pytest.mark.parametrize(
    ("include", "exclude", "follow", "expected"),
    [
        ([], ["d"], [], ["e", "e/f"]),
        ([], ["d", "!d/g"], [], ["d", "d/g", "d/g/h", "e", "e/f"]),
        (["d/g"], [], [], ["d", "d/g", "d/g/h"]),
        (["d"], [], ["e/f"], ["d", "d/f", "d/g", "d/g/h", "e", "e/f"]),
        (["*/f"], ["e"], [], ["d", "d/f"]),
        (["!x"], [], [], []),
        ([], [], [""], ["d", "d/f", "d/g", "d/g/h", "e", "e/f"]),
        (["d/g/h"], ["d/f"], [], ["d", "d/g", "d/g/h"]),
        (["**/h"], [], [], ["d", "d/g", "d/g/h"]),
        (["d/**"], [], [], ["d", "d/f", "d/g", "d/g/h"]),
    ],
)
def test_what_is_picked_comes_with_the_directories_above_it(
    tmp_path: Path, include: list[str], exclude: list[str], follow: list[str], expected: list[str]
) -> None:
    for name in ("d/g", "e"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("d/f", "d/g/h", "e/f"):
        (tmp_path / name).touch()
    with Walk(str(tmp_path), include=include, exclude=exclude, follow=follow) as walk:
        assert [os.fsdecode(entry.path) for entry in walk.entries()] == expected
