"""Modes as git stores them."""

from __future__ import annotations

import stat

import pytest

from pybuild.model.files import as_git_has_it


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (stat.S_IFREG | 0o600, stat.S_IFREG | 0o644),
        (stat.S_IFREG | 0o666, stat.S_IFREG | 0o644),
        (stat.S_IFREG | 0o655, stat.S_IFREG | 0o644),  # others may, the owner may not
        (stat.S_IFREG | 0o700, stat.S_IFREG | 0o755),
        (stat.S_IFREG | 0o6775, stat.S_IFREG | 0o755),
        (stat.S_IFDIR | 0o2700, stat.S_IFDIR | 0o755),
        (stat.S_IFLNK | 0o755, stat.S_IFLNK | 0o777),
        (stat.S_IFIFO | 0o600, stat.S_IFIFO | 0o644),
    ],
)
def test_only_whether_the_owner_may_execute_is_kept(mode: int, expected: int) -> None:
    assert as_git_has_it(mode) == expected
