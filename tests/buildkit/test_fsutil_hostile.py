"""Peers that send what they must not: each is refused before anything is written for it."""

from __future__ import annotations

import io
import os
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest

from pybuild.buildkit.fsutil import gomode, packet
from pybuild.buildkit.fsutil.packet import (
    FIN_PACKET,
    Stat,
    encode_data,
    encode_request,
    encode_stat,
)
from pybuild.buildkit.fsutil.receiver import BadEntry, Bounds, PeerFailed, Receiver
from pybuild.buildkit.fsutil.sender import Sender
from pybuild.buildkit.fsutil.writer import TreeWriter

FILE, DIR, LINK = 0o644, gomode.DIRECTORY | 0o755, gomode.SYMLINK | 0o777


def _entry(path: bytes, mode: int = FILE, size: int = 0, link: bytes = b"") -> bytes:
    return encode_stat(Stat(path=path, mode=mode, size=size, mtime_ns=1, linkname=link))


END = packet.END_OF_LIST

HOSTILE = [
    ("absolute", [_entry(b"/etc/passwd")], "clean relative"),
    ("climbs", [_entry(b"../x")], "clean relative"),
    ("climbs-inside", [_entry(b"a", DIR), _entry(b"a/../../x")], "clean relative"),
    ("dot", [_entry(b".", DIR)], "clean relative"),
    ("empty", [_entry(b"")], "clean relative"),
    ("double-slash", [_entry(b"a", DIR), _entry(b"a//b")], "clean relative"),
    ("slash-at-the-end", [_entry(b"a/", DIR)], "clean relative"),
    ("nul", [_entry(b"a\0b")], "clean relative"),
    ("name-too-long", [_entry(b"a" * 256)], "clean relative"),
    ("path-too-long", [_entry(b"/".join([b"a" * 200] * 21))], "more than 4095"),
    ("too-deep", [_entry(b"/".join([b"a"] * 300))], "deeper than"),
    ("unsorted", [_entry(b"b"), _entry(b"a")], "out of order"),
    ("twice", [_entry(b"a"), _entry(b"a")], "out of order"),
    ("twice-as-other", [_entry(b"a", DIR), _entry(b"a", LINK, link=b"/etc")], "out of order"),
    ("bytewise-order", [_entry(b"a", DIR), _entry(b"a-b"), _entry(b"a/c")], "out of order"),
    ("no-parent", [_entry(b"a/b")], "no directory"),
    ("below-a-file", [_entry(b"a"), _entry(b"a/b")], "no directory"),
    ("below-a-link", [_entry(b"a", LINK, link=b"/tmp"), _entry(b"a/b")], "no directory"),
    ("grandparent-missing", [_entry(b"a", DIR), _entry(b"a/b/c")], "no directory"),
    ("link-to-nothing", [_entry(b"a", LINK)], "link to nothing"),
    ("hard-link-forward", [_entry(b"a", FILE, link=b"b"), _entry(b"b")], "hard link"),
    ("hard-link-outside", [_entry(b"a", FILE, link=b"/etc/shadow")], "hard link"),
    ("hard-link-to-directory", [_entry(b"a", DIR), _entry(b"b", link=b"a")], "hard link"),
    ("hard-link-to-link", [_entry(b"a", LINK, link=b"/"), _entry(b"b", link=b"a")], "hard link"),
    ("no-type", [_entry(b"a", gomode.IRREGULAR)], "no known file type"),
    ("negative-size", [_entry(b"a", size=-1)], "bytes"),
    ("data-unasked", [_entry(b"a", DIR), encode_data(0, b"x")], "not asked for"),
    ("data-of-nothing", [encode_data(5, b"x")], "not asked for"),
    ("end-unasked", [encode_data(5, b"")], "not asked for"),
    (
        "data-after-end",
        [_entry(b"a", size=1), encode_data(0, b"x"), encode_data(0, b""), encode_data(0, b"x")],
        "not asked for",
    ),
    ("entry-after-list", [END, _entry(b"a")], "after the end"),
    ("list-ends-twice", [END, END], "after the end"),
    ("early-goodbye", [_entry(b"a", size=1), END, FIN_PACKET], "before all files"),
    ("goodbye-at-once", [FIN_PACKET], "before all files"),
    ("request", [encode_request(0)], "sending end"),
    ("unknown-type", [b"\x08\x09"], "unknown type"),
    ("garbage", [b"\xff\xff\xff"], "cut short"),
    ("grows", [_entry(b"a", size=1), *[encode_data(0, b"x" * 100)] * 3], "grows"),
    (
        "device-out-of-range",
        [encode_stat(Stat(path=b"a", mode=gomode.DEVICE | 0o600, devmajor=-1))],
        "device -1:0",
    ),
]


@pytest.mark.parametrize(
    ("messages", "words"), [pytest.param(m, w, id=name) for name, m, w in HOSTILE]
)
def test_a_hostile_peer_is_refused(tmp_path: Path, messages: list[bytes], words: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    inside = tmp_path / "inside"
    inside.mkdir()
    writer = TreeWriter(str(inside))
    receiver = Receiver(writer, Bounds(growth=100))
    with pytest.raises(BadEntry, match=words):
        receiver.feed(messages)
    writer.close()
    assert os.listdir(outside) == []
    assert sorted(os.listdir(tmp_path)) == ["inside", "outside"]


def test_bounds_hold_for_entries_names_and_open_files(tmp_path: Path) -> None:
    def feed(bounds: Bounds, messages: list[bytes]) -> None:
        writer = TreeWriter(str(tmp_path))
        try:
            Receiver(writer, bounds).feed(messages)
        finally:
            writer.close()

    many = [_entry(b"%04d" % number, size=1) for number in range(10)]
    with pytest.raises(BadEntry, match="more than 9 entries"):
        feed(Bounds(entries=9), many)
    with pytest.raises(BadEntry, match="bytes of paths"):
        feed(Bounds(names=30), many)
    with pytest.raises(BadEntry, match="more than 4 files at once"):
        feed(Bounds(open_files=4), [*many, *[encode_data(id, b"x") for id in range(10)]])
    with pytest.raises(BadEntry, match="attributes"):
        stat = Stat(path=b"a", mode=FILE, xattrs={b"user.a": bytes(100)})
        feed(Bounds(attributes=99), [encode_stat(stat)])


def test_a_peer_that_gives_up_is_quoted(tmp_path: Path) -> None:
    with closing(TreeWriter(str(tmp_path))) as writer:
        receiver = Receiver(writer)
        with pytest.raises(PeerFailed, match="disk on fire"):
            receiver.feed([packet.encode_error("disk on fire")])


def test_what_lies_in_a_kept_copy_cannot_lead_out_of_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_text("precious")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "d").symlink_to(outside)
    (inside / "f").symlink_to(outside / "f")
    (inside / "h").hardlink_to(outside / "f")
    writer = TreeWriter(str(inside))
    receiver = Receiver(writer)
    list_ = [_entry(b"d", DIR), _entry(b"d/f", size=1), _entry(b"f", size=1), _entry(b"h", size=9)]
    asked = receiver.feed([*list_, END])
    assert len(asked) == 3
    data = [m for id in (1, 2, 3) for m in (encode_data(id, b"x"), encode_data(id, b""))]
    receiver.feed(data)
    writer.finish()
    writer.close()
    assert (outside / "f").read_text() == "precious"
    assert os.listdir(outside) == ["f"]
    assert (inside / "d" / "f").read_bytes() == b"x" and not (inside / "d").is_symlink()


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([encode_request(9)], "no file"),
        ([encode_request(0)], "no file"),
        ([encode_request(1), encode_request(1)], "was sent"),
        ([FIN_PACKET, encode_request(1)], "was sent"),
        ([_entry(b"a")], "receiving end"),
        ([encode_data(0, b"x")], "receiving end"),
        ([b"\xff"], "cut short"),
    ],
)
def test_a_hostile_receiver_is_refused(messages: list[bytes], words: str) -> None:
    sender = Sender([Stat(path=b"d", mode=DIR), Stat(path=b"f", mode=FILE)], _never)
    sender.produce()
    with pytest.raises(BadEntry, match=words):
        sender.feed(messages)


def _never(path: bytes) -> NoReturn:
    raise AssertionError(path)


def test_the_rest_of_a_large_file_is_work_of_its_own() -> None:
    """Nothing more comes from the receiver, and the file must still get to its end."""
    size = 2 << 20
    sender = Sender([Stat(path=b"f", mode=FILE, size=size)], lambda path: io.BytesIO(bytes(size)))
    sender.produce()
    sender.feed([encode_request(0)])
    rounds = 0
    while sender.has_work:
        sender.produce()
        rounds += 1
    assert (sender.sent, rounds) == (size, 3)
    assert not sender.finished
    sender.feed([FIN_PACKET])
    assert sender.has_work
    assert sender.produce() == [FIN_PACKET]
    assert not sender.has_work


def test_what_cannot_be_opened_is_sent_empty_and_noted(tmp_path: Path) -> None:
    def fails(path: bytes) -> NoReturn:
        raise PermissionError(13, "denied")

    sender = Sender([Stat(path=b"f", mode=FILE, size=5, mtime_ns=1)], fails)
    writer = TreeWriter(str(tmp_path))
    receiver = Receiver(writer)
    while not (receiver.finished and sender.finished):
        sender.feed(receiver.feed(sender.produce()))
    writer.close()
    assert receiver.short == [b"f"]
    assert (tmp_path / "f").read_bytes() == b""
