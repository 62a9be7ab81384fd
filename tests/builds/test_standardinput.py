"""Standard input: looked at before it is read, taken whole, and never without bound [CTX-1]."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import socket
import stat
import tarfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from pybuild.builds import standardinput
from pybuild.builds.standardinput import StandardInput, copy_archive
from pybuild.model.errors import EnvironmentFault, UsageError, UserError


@contextmanager
def _sent(*pieces: bytes) -> Generator[StandardInput]:
    """Give an input that every read takes one of *pieces* from."""
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with reader:
        with writer:
            for piece in pieces:
                writer.send(piece)
        yield StandardInput(reader.fileno())


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("Dockerfile"))
    return buffer.getvalue()


def test_an_archive_is_known_by_its_first_block_however_it_comes() -> None:
    data = _tar()
    with _sent(data[:100], data[100:511], data[511:512], data[512:]) as stdin:
        assert stdin.is_archive()
        assert stdin.is_archive()
        assert stdin.text() == data
    with _sent(gzip.compress(data)) as stdin:
        assert stdin.is_archive()
    with _sent(b"FROM ", b"scratch\n") as stdin:
        assert not stdin.is_archive()
        assert stdin.text() == b"FROM scratch\n"
    with _sent() as stdin:
        assert not stdin.is_archive()
        assert stdin.text() == b""


def test_no_more_than_the_first_block_is_waited_for() -> None:
    reader, writer = os.pipe()
    os.write(writer, _tar()[:512])
    assert StandardInput(reader).is_archive()
    os.close(writer)
    os.close(reader)


def test_bytes_that_were_looked_at_are_read_first() -> None:
    with _sent(b"FROM scratch\n") as stdin:
        assert not stdin.is_archive()
        assert [stdin.read(4), stdin.read(1), stdin.read(100), stdin.read(100)] == [
            b"FROM",
            b" ",
            b"scratch\n",
            b"",
        ]
    with _sent(b"all of it") as stdin:
        assert stdin.read(3) == b"all"


def test_a_dockerfile_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    assert standardinput.MAX_TEXT_BYTES == 64 << 20
    monkeypatch.setattr(standardinput, "MAX_TEXT_BYTES", 4)
    with _sent(b"12", b"34") as stdin:
        assert stdin.text() == b"1234"
    with _sent(b"12", b"345") as stdin, pytest.raises(UserError, match="larger than 64 MiB"):
        stdin.text()


def test_an_archive_is_copied_whole_and_for_nobody_else(tmp_path: Path) -> None:
    data = _tar()
    with _sent(data[:600], data[600:]) as stdin:
        assert stdin.is_archive()
        copied = stdin.copy_to(str(tmp_path / "copy"))
    assert copied == (hashlib.sha256(data).hexdigest(), len(data))
    assert (tmp_path / "copy").read_bytes() == data
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o600
    with _sent(b"x") as stdin, pytest.raises(FileExistsError):
        stdin.copy_to(str(tmp_path / "copy"))


def test_what_does_not_fit_on_the_disk_is_not_copied_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def statvfs(path: str) -> SimpleNamespace:
        return SimpleNamespace(f_bavail=2, f_frsize=10)

    monkeypatch.setattr(os, "statvfs", statvfs)
    with _sent(b"0123456789", b"012345678") as stdin:
        assert stdin.copy_to(str(tmp_path / "fits"))[1] == 19
    with (
        _sent(b"0123456789", b"0123456789") as stdin,
        pytest.raises(EnvironmentFault, match="it goes on after 19 bytes"),
    ):
        stdin.copy_to(str(tmp_path / "large"))


class Terminal(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def test_no_archive_is_read_from_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal())
    with pytest.raises(UsageError, match="refusing to read an archive from a terminal"):
        copy_archive(str(tmp_path / "archive"))
    assert os.listdir(tmp_path) == []
