"""The receiving end of a tree, and the bounds that it keeps."""

from __future__ import annotations

import stat

import pytest

from pybuild.buildkit.fsutil import gomode, packet
from pybuild.buildkit.fsutil.packet import (
    END_OF_LIST,
    FIN_PACKET,
    Stat,
    encode_data,
    encode_request,
    encode_stat,
)
from pybuild.buildkit.fsutil.receiver import BadEntry, Bounds, PeerFailed, Receiver, shown
from tests.buildkit.fsentries import DIR, entry

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
