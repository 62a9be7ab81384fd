"""Small files that are replaced whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pybuild.cache.disk.replacing import replace_file


def test_a_file_is_replaced_by_path_and_by_directory(tmp_path: Path) -> None:
    replace_file(str(tmp_path / "a"), b"one")
    at = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        replace_file("a", b"two", at=at, flush=True)
    finally:
        os.close(at)
    assert (tmp_path / "a").read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a"]


def test_what_cannot_be_replaced_is_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(OSError):
        replace_file(str(tmp_path / "a"), b"one")
    assert os.listdir(tmp_path) == ["a"]
    assert os.listdir(tmp_path / "a") == ["b"]
