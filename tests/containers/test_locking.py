"""The lock that a container's monitor holds for its life [MON-3]."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from pybuild.containers.locking import take
from pybuild.executor.zygote.faults import USER, Fault


def opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT)


def test_a_lock_is_taken_once(tmp_path: Path) -> None:
    """By the monitor; who only looks whether there is one holds it for a moment [MON-3]."""
    ours, other = opened(tmp_path / "lock"), opened(tmp_path / "lock")
    take(ours)
    with pytest.raises(Fault, match="^the container is running already$") as caught:
        take(other)
    assert caught.value.kind == USER
    os.close(ours)
    take(other)
    os.close(other)
    looker, ours = opened(tmp_path / "lock"), opened(tmp_path / "lock")
    fcntl.flock(looker, fcntl.LOCK_SH)
    child = os.fork()
    if child == 0:
        take(ours)
        os._exit(0)
    os.close(ours)
    fcntl.flock(looker, fcntl.LOCK_UN)
    assert os.waitpid(child, 0)[1] == 0
    os.close(looker)
