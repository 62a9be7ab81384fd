"""Mounts of all kinds, and their targets and sources in hostile trees."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from pybuild.executor.steps.spec import StepMount, StepMountType
from pybuild.model.errors import UserError
from tests.executor.contract.rungs import RungBox

pytestmark = [pytest.mark.root, pytest.mark.sandbox]


def bind(source: Path | str, target: str, **changes: Any) -> StepMount:
    kind = StepMountType.BIND_PATH
    return StepMount(type=kind, source=str(source), target=target, **changes)


def test_bind_of_a_directory_and_of_a_file(box: RungBox, tmp_path: Path) -> None:
    (tmp_path / "src/sub").mkdir(parents=True)
    (tmp_path / "src/sub/f").write_text("content")
    mounts = (
        bind(tmp_path / "src", "/ro", readonly=True),
        bind(tmp_path / "src", "/rw"),
        bind(tmp_path / "src", "/file", selector="/sub/f", readonly=True),
    )
    done = box.sh("cat /ro/sub/f /file; echo x > /ro/n; echo y > /rw/n", mounts=mounts)
    assert done.out == "contentcontent"
    assert "Read-only file system" in done.err
    assert (tmp_path / "src/n").read_text() == "y\n"
    assert done.delta() == {}


def test_bind_rw_that_is_thrown_away(box: RungBox, tmp_path: Path) -> None:
    """[MNT-5]"""
    (tmp_path / "src").mkdir()
    (tmp_path / "src/f").write_text("old")
    mounts = (bind(tmp_path / "src", "/m", discard_writes=True),)
    done = box.sh("echo new > /m/f; cat /m/f; rm /m/f; ls /m", mounts=mounts)
    assert done.out == "new\n"
    assert (tmp_path / "src/f").read_text() == "old"
    assert done.delta() == {}


def test_bind_of_deltas_with_a_selector(box: RungBox, tmp_path: Path) -> None:
    for name, content in (("one", "1"), ("two", "2")):
        (tmp_path / name / "d").mkdir(parents=True)
        (tmp_path / name / "d/f").write_text(content)
        (tmp_path / name / "d" / name).write_text("")
    lowers = (str(tmp_path / "one"), str(tmp_path / "two"))
    kind = StepMountType.BIND_OVERLAY
    mounts = (
        StepMount(type=kind, lowers=lowers, selector="/d", target="/ro", readonly=True),
        StepMount(type=kind, lowers=lowers, selector="/d", target="/rw"),
        StepMount(type=kind, lowers=lowers[:1], target="/single", readonly=True),
        StepMount(type=kind, target="/none", readonly=True),
    )
    done = box.sh("cat /ro/f; ls /ro; echo 3 > /rw/f; ls /single /none; touch /ro/x", mounts=mounts)
    assert done.out.split() == ["2f", "one", "two", "/none:", "/single:", "d"]
    assert "Read-only" in done.err
    assert (tmp_path / "two/d/f").read_text() == "2"


def test_a_single_delta_does_not_show_its_whiteouts(box: RungBox, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    os.mknod(tmp_path / "one/gone", stat.S_IFCHR, 0)
    (tmp_path / "one/here").write_text("")
    kind, lowers = StepMountType.BIND_OVERLAY, (str(tmp_path / "one"),)
    mounts = (StepMount(type=kind, lowers=lowers, target="/m", readonly=True),)
    assert box.sh("ls /m", mounts=mounts).out == "here\n"


def test_missing_sources_are_named(box: RungBox, tmp_path: Path) -> None:
    with pytest.raises(UserError, match='mount source "/no": not found'):
        box.run("true", mounts=(bind(tmp_path, "/m", selector="/no", readonly=True),))
    with pytest.raises(UserError, match='mount source ".*/absent": no such file'):
        box.run("true", mounts=(bind(tmp_path / "absent", "/m", readonly=True),))


def test_selectors_cannot_leave_their_source(box: RungBox, tmp_path: Path) -> None:
    """[MNT-13]"""
    (tmp_path / "src").mkdir()
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "src/link").symlink_to("../secret")
    with pytest.raises(UserError, match='mount source "/link": not found'):
        box.run("true", mounts=(bind(tmp_path / "src", "/m", selector="/link", readonly=True),))


def test_tmpfs_takes_size_and_is_lost(box: RungBox) -> None:
    """[MNT-9, MNT-23]"""
    kind = StepMountType.TMPFS
    mounts = (StepMount(type=kind, target="/t", size_bytes=1 << 20),)
    done = box.sh("grep ' /t ' /proc/mounts; echo x > /t/f; stat -c %a /t", mounts=mounts)
    assert "size=1024k" in done.out
    assert "nosuid" in done.out
    assert done.out.endswith("1777\n")
    assert done.delta() == {}


def test_secret_is_a_read_only_file_in_memory(box: RungBox) -> None:
    """[MNT-18]"""
    kind = StepMountType.SECRET
    mounts = (
        StepMount(type=kind, target="/run/secrets/s", data=b"tell nobody"),
        StepMount(type=kind, target="/k", data=b"app's", uid=1000, gid=7, mode=0o440),
    )
    script = "cat /run/secrets/s; stat -c ' %a %u %g' /run/secrets/s /k; grep /run /proc/mounts"
    done = box.sh(script + "; echo x > /k", mounts=mounts)
    assert done.out.startswith("tell nobody 400 0 0\n 440 1000 7\ntmpfs /run/secrets/s tmpfs ro,")
    assert "nosuid,nodev,noexec" in done.out
    assert "Read-only" in done.err
    assert done.delta() == {}
    # Not `rglob`: the kernel may still be taking the overlay's own directories away.
    left = [Path(at, name) for at, _, names in os.walk(done.spec.work) for name in names]
    assert all(b"tell" not in path.read_bytes() for path in left)


def test_mount_inside_a_mount(box: RungBox, tmp_path: Path) -> None:
    """[MNT-17] in whichever order they are given."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    mounts = (bind(tmp_path / "b", "/c/in/side"), bind(tmp_path / "a", "/c"))
    done = box.sh("echo x > /c/in/side/f; echo y > /c/f", mounts=mounts)
    assert done.status == 0, done.err
    assert (tmp_path / "b/f").read_text() == "x\n"
    assert (tmp_path / "a/f").read_text() == "y\n"
    assert done.delta() == {}


def test_mount_inside_a_read_only_mount_needs_its_mount_point(box: RungBox, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    mounts = (bind(tmp_path / "a", "/c", readonly=True), bind(tmp_path, "/c/in"))
    with pytest.raises(UserError, match='target "/c/in": its mount point is missing') as caught:
        box.run("true", mounts=mounts)
    assert caught.value.hints


def test_mount_targets_cannot_leave_the_root(box: RungBox, tmp_path: Path) -> None:
    """A link in the image leads to the same path inside the root."""
    outside = Path(f"/pybuild-outside-{os.getpid()}")
    layer = tmp_path / "layer"
    (layer / "d").mkdir(parents=True)
    (layer / "abs").symlink_to(outside)
    (layer / "d/up").symlink_to("../../../../../.." + str(outside))
    box.lowers = (*box.lowers, layer)
    mounts = (
        StepMount(type=StepMountType.SECRET, target="/abs/one", data=b"1"),
        StepMount(type=StepMountType.SECRET, target="/d/up/two", data=b"2"),
    )
    done = box.sh(f"cat {outside}/one {outside}/two", mounts=mounts)
    assert done.out == "12", done.err
    assert not outside.exists()
    assert done.delta() == {}


def test_mount_through_a_link_planted_in_a_cache_stays_inside(box: RungBox, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/link").symlink_to(outside)
    mounts = (
        bind(tmp_path / "cache", "/cache"),
        StepMount(type=StepMountType.SECRET, target="/cache/link/s", data=b"1"),
    )
    done = box.sh(f"cat {outside}/s", mounts=mounts)
    assert done.out == "1", done.err
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("target", ["/", "//", "/x/..", ""])
def test_root_is_no_mount_target(box: RungBox, target: str) -> None:
    """[MNT-2]"""
    with pytest.raises(UserError, match='invalid mount target "/"'):
        box.run("true", mounts=(StepMount(type=StepMountType.TMPFS, target=target),))


def test_mount_target_of_the_wrong_kind_is_named(box: RungBox) -> None:
    mounts = (StepMount(type=StepMountType.TMPFS, target="/etc/passwd"),)
    with pytest.raises(UserError, match='"/etc/passwd": the source is a directory, the target'):
        box.run("true", mounts=mounts)
    mounts = (StepMount(type=StepMountType.TMPFS, target="/etc/passwd/x"),)
    with pytest.raises(UserError, match='mount target "/etc/passwd/x": not a directory'):
        box.run("true", mounts=mounts)
