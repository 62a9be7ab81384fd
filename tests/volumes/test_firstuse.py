"""New volumes, filled with what the image has in their place, and the directories that mounts lack [CTR-101]."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings
from pybuild.executor.steps.spec import StepMount, StepMountType
from pybuild.executor.zygote.faults import USER, Fault
from pybuild.model.border import WorkerCall
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.volumes import firstuse
from pybuild.volumes.listing import document, row_of
from pybuild.volumes.mountpoint import MountKind, MountOrigin, MountPoint, make_source
from pybuild.volumes.provision import provide
from pybuild.volumes.volume import LocalVolume
from pybuild.volumes.volumes import Volumes
from tests.executor.filetrees import in_child


@pytest.fixture
def deltas(tmp_path: Path) -> Sequence[str]:
    """Return two layers with a directory ``/data`` that has a link to it, and a file."""
    base, upper = tmp_path / "base", tmp_path / "upper"
    (base / "data/inner").mkdir(parents=True)
    (base / "data/inner/file").write_text("text")
    (base / "data").chmod(0o2750)
    (base / "link").symlink_to("data")
    (base / "file").touch()
    (upper / "data").mkdir(parents=True)
    (upper / "data").chmod(0o2750)
    (upper / "data/more").write_text("more")
    if os.geteuid() == 0:
        os.chown(upper / "data", 7, 8)
    return [str(base), str(upper)]


def fill(tmp_path: Path, deltas: Sequence[str], path: str, **options: Any) -> bool:
    """Fill the directory ``volume`` in a process of its own."""
    for name in ("volume", "mounts"):
        (tmp_path / name).mkdir(exist_ok=True)
    given: dict[str, Any] = {"copy": True, **options}

    def work() -> bool:
        call = WorkerCall()
        return firstuse.fill(
            call, str(tmp_path / "mounts"), deltas, path, str(tmp_path / "volume"), **given
        )

    return bool(in_child(work))


@pytest.mark.root
@pytest.mark.sandbox
@pytest.mark.parametrize("path", ["/data", "/link"])
def test_an_empty_one_gets_files_owner_and_mode(
    tmp_path: Path, deltas: Sequence[str], path: str
) -> None:
    assert fill(tmp_path, deltas, path)
    volume = tmp_path / "volume"
    assert sorted(os.listdir(volume)) == ["inner", "more"]
    assert (volume / "inner/file").read_text() == "text"
    status = volume.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (7, 8, 0o2750)
    assert os.listdir(tmp_path / "mounts") == []
    assert not fill(tmp_path, deltas, path)  # it is not empty any more


@pytest.mark.root
@pytest.mark.sandbox
def test_one_that_is_not_to_be_filled_stays_empty(tmp_path: Path, deltas: Sequence[str]) -> None:
    assert not fill(tmp_path, deltas, "/data", copy=False)
    assert not fill(tmp_path, deltas, "/nothing")
    assert not fill(tmp_path, deltas, "/file/below")
    assert os.listdir(tmp_path / "volume") == []
    for copy in (True, False):
        with pytest.raises(Fault) as caught:
            fill(tmp_path, deltas, "/file", copy=copy)
        assert caught.value.kind == USER
        said = "cannot mount volume over existing file, file exists /file"
        assert str(caught.value) == said


@pytest.mark.root
@pytest.mark.sandbox
def test_an_empty_directory_of_it_is_filled_in_its_place(
    tmp_path: Path, deltas: Sequence[str]
) -> None:
    volume = tmp_path / "volume"
    (volume / "sub").mkdir(parents=True)
    (volume / "full").mkdir()
    (volume / "full/x").touch()
    (volume / "loop").symlink_to("loop")
    volume.chmod(0o711)
    for subpath in ("full", "full/x", "nothing", "loop"):
        assert not fill(tmp_path, deltas, "/data", subpath=subpath), subpath
    assert fill(tmp_path, deltas, "/data", subpath="sub")
    assert (volume / "sub/inner/file").read_text() == "text"
    assert not (volume / "inner").exists()
    status = volume.stat()
    assert (status.st_uid, status.st_mode & 0o7777) == (0, 0o711)


@pytest.mark.root
@pytest.mark.sandbox
def test_mounts_get_what_they_lack(tmp_path: Path, deltas: Sequence[str]) -> None:
    bind = MountPoint(MountKind.BIND, "/b", source=str(tmp_path / "new"))
    named = MountPoint(MountKind.VOLUME, "/data", source="vol", labels={"a": "b"})
    nameless = MountPoint(MountKind.VOLUME, "/data", nocopy=True)
    device = MountPoint(
        MountKind.VOLUME, "/data", source="dev", options={"device": str(tmp_path), "o": "bind"}
    )
    temporary = MountPoint(MountKind.TMPFS, "/t")
    made: list[str] = []

    async def work() -> None:
        async with Engine(Settings(root=str(tmp_path / "store"))) as engine:
            volumes = Volumes(engine.store)

            async def provided(*mounts: MountPoint) -> tuple[MountPoint, ...]:
                with ExitStack() as held:
                    known = await provide(
                        volumes, engine.workers, engine.mount_dir, mounts, deltas, held, made
                    )
                    if made:
                        with pytest.raises(UserError, match="volume is in use"):
                            volumes.remove(made[0], lambda _: [])
                return known

            known = await provided(bind, named, nameless, device, temporary)
            assert known[0] == bind and (tmp_path / "new").is_dir()
            assert known[1] == named and known[3] == device and known[4] == temporary
            assert [known[2].source] == made
            files = [os.listdir(volumes.find(name).mountpoint) for name in ("vol", made[0])]
            assert sorted(files[0]) == ["inner", "more"] and files[1] == []
            assert volumes.find("vol").labels == {"a": "b"}
            others = MountPoint(
                MountKind.VOLUME, "/data", source="gone", origin=MountOrigin.VOLUMES_FROM
            )
            made.clear()
            with pytest.raises(UserError, match="get gone: no such volume"):
                await provided(others)
            volumes.create("gone")
            assert await provided(others) == (others,)
            assert os.listdir(volumes.find("gone").mountpoint) == []

    asyncio.run(work())


def test_a_bind_that_is_not_there_is_made(tmp_path: Path) -> None:
    new = tmp_path / "a/b"
    mount = MountPoint(MountKind.BIND, "/b", source=str(new), text="a/b:/b")
    make_source(mount._replace(origin=MountOrigin.MOUNT))
    assert not new.exists()
    make_source(mount)
    assert new.is_dir()
    make_source(mount)
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match='^volume "a/b:/b": cannot make .*/file/x: not a'):
        make_source(mount._replace(source=str(tmp_path / "file/x")))


def test_a_path_of_a_volume_is_there_and_inside(tmp_path: Path) -> None:
    volume = LocalVolume(name="vol", mountpoint=str(tmp_path / "data"))
    (tmp_path / "data/sub").mkdir(parents=True)
    (tmp_path / "data/out").symlink_to("../data2")
    (tmp_path / "data2").mkdir()
    mounted = volume.mount("/t", readonly=False, subpath="sub")
    assert mounted == StepMount(
        StepMountType.BIND_PATH, "/t", volume.mountpoint, selector="sub", readonly=False
    )
    whole = volume.mount("/t", readonly=True, subpath="")
    assert (whole.selector, whole.readonly) == ("/", True)
    for subpath in ("..", "out", "../data2"):
        with pytest.raises(UserError, match="path concatenation escapes the base directory") as e:
            volume.mount("/t", readonly=False, subpath=subpath)
        assert e.value.message.endswith(f"base: {volume.mountpoint}, subpath: {subpath}")
    with pytest.raises(UserError, match="cannot access path .*/data/none: no such file or direc"):
        volume.mount("/t", readonly=False, subpath="none")


@pytest.mark.parametrize(
    ("how", "given", "readonly"),
    [("bind", False, False), ("bind,ro", False, True), ("bind", True, True)],
)
def test_a_device_is_mounted_as_its_options_say(how: str, given: bool, readonly: bool) -> None:
    volume = LocalVolume(name="v", mountpoint="/m", options={"device": "/dev", "o": how})
    mounted = volume.mount("/t", readonly=given, subpath="")
    assert (mounted.source, mounted.readonly) == ("/dev", readonly)


def test_a_volume_is_shown_in_dockers_words() -> None:
    volume = LocalVolume(
        name="vol", mountpoint="/m", labels={"b": "2", "a": "1"}, created=1_700_000_000_999_999_999
    )
    row = row_of(volume)
    assert (row["Labels"], row["Mountpoint"], row["Name"]) == ("a=1,b=2", "/m", "vol")
    assert (row["Driver"], row["Scope"], row["Size"]) == ("local", "local", "N/A")
    assert document(volume) == {
        "CreatedAt": "2023-11-14T22:13:20Z", "Driver": "local", "Labels": {"b": "2", "a": "1"},
        "Mountpoint": "/m", "Name": "vol", "Options": None, "Scope": "local",
    }  # fmt: skip
    other = LocalVolume(name="v", mountpoint="/m", options={"device": "/d"})
    assert document(other)["Labels"] is None
    assert document(other)["Options"] == {"device": "/d"}


def test_what_cannot_be_looked_at_is_left_to_the_mount(tmp_path: Path) -> None:
    """It may be of other users' ids, whom the container may be."""
    volume = LocalVolume(name="vol", mountpoint=str(tmp_path))
    (tmp_path / "file").touch()
    assert volume.mount("/t", readonly=False, subpath="file/x").selector == "file/x"
