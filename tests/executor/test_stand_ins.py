"""The /dev of a step where no device can be made: plain files, which say what they stand for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pybuild.executor.zygote import nodes
from pybuild.executor.zygote.chroot import devices
from pybuild.executor.zygote.faults import Fault


def refuse(path: str, mode: int, number: int) -> None:
    raise PermissionError(1, "Operation not permitted", path)


def test_files_stand_for_devices_and_those_of_chance_have_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "mknod", refuse)
    (warning,) = devices.make(str(tmp_path / "dev"))
    assert warning.startswith(
        f"plain files stand for {', '.join(f'/dev/{n}' for n in nodes.NAMES)}:"
    )
    sizes = {name: (tmp_path / "dev" / name).stat().st_size for name in nodes.NAMES}
    assert {name for name, size in sizes.items() if size} == {"random", "urandom"}
    assert sizes["random"] == 64 << 10
    for name in nodes.NAMES:
        assert (tmp_path / "dev" / name).stat().st_mode & 0o777 == 0o666, name
    assert (tmp_path / "dev/shm").stat().st_mode & 0o7777 == 0o1777
    assert os.readlink(tmp_path / "dev/stdout") == "/proc/self/fd/1"


def test_what_is_no_device_is_not_made_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for source, reason in (("file", "not a device"), ("none", "no such file or directory")):
        with pytest.raises(Fault, match=f'^device "{tmp_path}/{source}": {reason}$'):
            devices.copy(f"{tmp_path}/{source}", f"{tmp_path}/made")
    monkeypatch.setattr(os, "mknod", refuse)
    with pytest.raises(Fault, match='^device "/dev/null": operation not permitted$'):
        devices.copy("/dev/null", f"{tmp_path}/made")
    assert not (tmp_path / "made").exists()
