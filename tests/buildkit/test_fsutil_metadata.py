"""A tree of which most is only listed: what patterns match arrives with what is above it, and a list of all."""

from __future__ import annotations

import io
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from pybuild.buildkit.fsutil import metadata
from pybuild.buildkit.fsutil.metadata import MetadataWriter
from pybuild.buildkit.fsutil.packet import Stat, stat_bytes
from pybuild.buildkit.fsutil.receiver import BadEntry, Receiver
from pybuild.buildkit.fsutil.sender import Sender
from pybuild.buildkit.fsutil.writer import TreeWriter
from pybuild.model.patterns import PatternMatcher
from tests.buildkit.fsentries import DIR, FILE

TREE = [
    Stat(path=b"a", mode=DIR),
    Stat(path=b"a/deep", mode=DIR),
    Stat(path=b"a/deep/no", mode=FILE, size=3),
    Stat(path=b"a/deep/yes", mode=FILE, size=3),
    Stat(path=b"a/last", mode=FILE, size=3),
    Stat(path=b"empty", mode=DIR),
    Stat(path=b"z", mode=DIR),
    Stat(path=b"z/no", mode=FILE, size=3),
]


def receive(root: Path, entries: Sequence[Stat], *patterns: str) -> list[str]:
    """Receive the matching entries below *root*; return the paths of the files that were sent."""
    sent: list[str] = []

    def opened(path: bytes) -> io.BytesIO:
        sent.append(path.decode())
        return io.BytesIO(b"abc")

    sender, writer = Sender(entries, opened), TreeWriter(str(root))
    sink = MetadataWriter(writer, str(root), PatternMatcher(patterns))
    receiver = Receiver(sink)
    try:
        while not (receiver.finished and sender.finished):
            sender.feed(receiver.feed(sender.produce()))
        sink.finish()
    finally:
        writer.close()
    return sent


def below(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")} - {metadata.NAME}


def test_what_matches_arrives_with_the_directories_above_it(tmp_path: Path) -> None:
    assert receive(tmp_path, TREE, "**/yes") == ["a/deep/yes"]
    assert below(tmp_path) == {"a", "a/deep", "a/deep/yes"}


def test_a_directory_that_was_left_is_not_above_what_comes(tmp_path: Path) -> None:
    receive(tmp_path, TREE, "a/last", "z")
    assert below(tmp_path) == {"a", "a/last", "z", "z/no"}


def test_the_list_has_all(tmp_path: Path) -> None:
    receive(tmp_path, TREE, "**/yes")
    file = tmp_path / metadata.NAME
    messages = [stat_bytes(entry) for entry in TREE]
    assert file.read_bytes() == b"".join(
        len(message).to_bytes(4, "little") + message for message in messages
    )
    status = file.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o644, 0.0)


def test_a_file_of_the_lists_name_is_left_out(tmp_path: Path) -> None:
    named = Stat(path=metadata.NAME.encode(), mode=FILE, size=3)
    assert receive(tmp_path, [named], "*") == []
    assert (tmp_path / metadata.NAME).read_bytes() == b""


def test_a_hard_link_needs_a_file_that_came(tmp_path: Path) -> None:
    first = Stat(path=b"a", mode=FILE, size=3)
    link = Stat(path=b"b", mode=FILE, linkname=b"a")
    receive(tmp_path, [first, link], "*")
    assert (tmp_path / "a").samefile(tmp_path / "b")
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(BadEntry, match="'b' is a hard link to what is only listed"):
        receive(other, [first, link], "b")


def test_a_list_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "MOST_BYTES", 2 * len(stat_bytes(TREE[0])) + 4)
    with pytest.raises(BadEntry, match="a list of more than 0 MiB"):
        receive(tmp_path, [TREE[0], TREE[6], Stat(path=b"zz", mode=DIR)])
    monkeypatch.setattr(metadata, "MOST_BYTES", 2 * len(stat_bytes(TREE[0])) + 4)
    other = tmp_path / "other"
    other.mkdir()
    receive(other, [TREE[0], TREE[6]])
