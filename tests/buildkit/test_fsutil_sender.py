"""The sending end of a tree."""

from __future__ import annotations

import errno
import io

import pytest

from pybuild.buildkit.fsutil import packet
from pybuild.buildkit.fsutil.packet import (
    END_OF_LIST,
    FIN_PACKET,
    Stat,
    decode,
    encode_data,
    encode_request,
    encode_stat,
)
from pybuild.buildkit.fsutil.receiver import BadEntry, PeerFailed
from pybuild.buildkit.fsutil.sender import PIECE, Sender
from tests.buildkit.fsentries import DIR, FILE

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
