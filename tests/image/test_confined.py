"""Directories below a root, found without following a link, by the kernel and one part at a time [DST-2]."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from pybuild.image.layer.confined import open_beneath, walk_beneath


@pytest.fixture
def root(tmp_path: Path) -> Generator[int]:
    (tmp_path / "root/a/b").mkdir(parents=True)
    (tmp_path / "root/file").write_text("")
    (tmp_path / "root/link").symlink_to("a")
    fd = os.open(tmp_path / "root", os.O_RDONLY)
    yield fd
    os.close(fd)


ways = pytest.mark.parametrize("way", [open_beneath, walk_beneath])


@ways
@pytest.mark.parametrize("path", [b"", b"a", b"a/b", b"a//b", b"a/./b", b"."])
def test_a_directory_is_opened(way: Callable[[int, bytes], int], root: int, path: bytes) -> None:
    fd = way(root, path)
    try:
        opened = os.fstat(fd)
    finally:
        os.close(fd)
    expected = os.stat(path or b".", dir_fd=root)
    assert (opened.st_dev, opened.st_ino) == (expected.st_dev, expected.st_ino)


@ways
@pytest.mark.parametrize(
    ("path", "error"),
    [
        (b"absent", FileNotFoundError),
        (b"a/absent", FileNotFoundError),
        (b"file", NotADirectoryError),
        (b"..", OSError),
        (b"link", OSError),
        (b"link/b", OSError),
    ],
)
def test_nothing_else_is_and_no_descriptor_stays(
    way: Callable[[int, bytes], int], root: int, path: bytes, error: type[OSError]
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(error):
        way(root, path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_path_longer_than_the_kernel_takes_is_walked(root: int) -> None:
    path = b"a/" + b"./" * 3000 + b"b"
    fd = open_beneath(root, path)
    assert os.fstat(fd).st_ino == os.stat(b"a/b", dir_fd=root).st_ino
    os.close(fd)
