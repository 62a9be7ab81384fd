"""A large file copied beside the next: the same result, the same faults, nothing left open."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pybuild.executor.files import content
from pybuild.executor.files.aside import LARGE_BYTES, Aside
from pybuild.executor.files.copying import Copier
from pybuild.executor.files.selecting import Source
from pybuild.executor.files.tree import Tree
from pybuild.executor.zygote.faults import Fault
from tests.descriptors import none_left_open


@contextmanager
def opened(
    folder: Path, flags: int = os.O_WRONLY | os.O_CREAT
) -> Generator[tuple[int, int, os.stat_result]]:
    large = folder / "large"
    large.write_bytes(os.urandom(1 << 16) * (LARGE_BYTES >> 16))
    (folder / "copy").touch()
    source, target = os.open(large, os.O_RDONLY), os.open(folder / "copy", flags)
    try:
        yield source, target, os.fstat(source)
    finally:
        os.close(source)
        os.close(target)


def nothing(source: int, target: int, copied: int) -> None:
    pass


def test_the_end_is_told_when_all_is_copied(tmp_path: Path) -> None:
    ended: list[tuple[int, int]] = []

    def end(source: int, target: int, copied: int) -> None:
        ended.append((os.fstat(target).st_size, copied))

    with none_left_open(), opened(tmp_path) as (source, target, status), Aside() as aside:
        assert aside.take(source, target, status, "copy", end)
        assert ended == []
    assert ended == [(LARGE_BYTES, LARGE_BYTES)]
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "large").read_bytes()


def test_small_files_and_a_second_one_are_left_to_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = threading.Event()

    def copy(source: int, target: int, status: os.stat_result) -> int:
        may_end.wait()
        return 0

    monkeypatch.setattr("pybuild.executor.files.aside.copy_content", copy)
    with opened(tmp_path) as (source, target, status), Aside() as aside:
        (tmp_path / "small").write_bytes(b"x")
        small = os.stat(tmp_path / "small")
        assert not aside.take(source, target, small, "copy", nothing)
        try:
            assert aside.take(source, target, status, "copy", nothing)
            assert not aside.take(source, target, status, "copy", nothing)
        finally:
            may_end.set()


def test_a_fault_names_the_file_and_comes_when_it_is_settled(tmp_path: Path) -> None:
    with (
        none_left_open(),
        pytest.raises(OSError, match="/the/copy"),
        opened(tmp_path, os.O_RDONLY) as (source, target, status),
        Aside() as aside,
    ):
        assert aside.take(source, target, status, "the/copy", nothing)


def test_what_fails_meanwhile_is_raised_and_nothing_ended(tmp_path: Path) -> None:
    ended: list[int] = []

    def end(source: int, target: int, copied: int) -> None:
        ended.append(copied)

    with (
        none_left_open(),
        pytest.raises(KeyError),
        opened(tmp_path) as (source, target, status),
        Aside() as aside,
    ):
        assert aside.take(source, target, status, "copy", end)
        raise KeyError
    assert ended == []


@pytest.fixture
def trees(tmp_path: Path) -> Generator[tuple[Tree, Tree, Path]]:
    context, result = tmp_path / "context", tmp_path / "result"
    context.mkdir()
    result.mkdir()
    for number in range(4):
        for size in (LARGE_BYTES + number, number):
            path = context / f"{number}-{size}"
            path.write_bytes(bytes([number + 1]) * size)
            path.chmod(0o600 + number)
            os.utime(path, ns=(10**18 + number, 10**18 + number))
    with Tree.open(str(context)) as source, Tree.open(str(result)) as dest:
        yield source, dest, tmp_path


def test_several_large_files_have_their_bytes_and_attributes(
    trees: tuple[Tree, Tree, Path],
) -> None:
    source, dest, folder = trees
    Copier(source, dest).copy(Source("", "", False), "", contents_only=True, follow=True)
    for path in (folder / "context").iterdir():
        copy = folder / "result" / path.name
        assert copy.read_bytes() == path.read_bytes(), path.name
        one, other = path.stat(), copy.stat()
        assert (one.st_mode, one.st_mtime_ns) == (other.st_mode, other.st_mtime_ns), path.name


def test_a_file_that_changes_while_it_is_copied_is_a_fault(
    trees: tuple[Tree, Tree, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, dest, folder = trees

    def copy_content(source: int, target: int, status: os.stat_result) -> int:
        copied = content.copy_content(source, target, status)
        for path in (folder / "context").iterdir():
            if path.stat().st_size == status.st_size:
                os.utime(path)
        return copied

    monkeypatch.setattr("pybuild.executor.files.aside.copy_content", copy_content)
    with pytest.raises(Fault, match="changes while it is read"):
        Copier(source, dest).copy(Source("", "", False), "", contents_only=True, follow=True)
