"""A step's root, and the delta that it leaves."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pybuild.executor.steps.spec import StepMount, StepMountType
from pybuild.model.errors import EnvironmentFault, UserError
from tests.executor.contract.rungs import RungBox

pytestmark = [pytest.mark.root, pytest.mark.sandbox]


def test_a_step_that_does_nothing_leaves_nothing(box: RungBox) -> None:
    done = box.run("true", mounts=(StepMount(type=StepMountType.TMPFS, target="/a/b/c"),))
    assert done.delta() == {}


def test_changes_are_the_delta(box: RungBox, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    (layer / "d").mkdir(parents=True)
    (layer / "d/old").write_text("old")
    (layer / "gone").write_text("gone")
    box.lowers = (*box.lowers, layer)
    done = box.sh("rm /gone; rm -r /d; mkdir /d; echo new > /d/new; ln -s x /l")
    assert list(done.delta().items()) == [
        *(("d", "opaque"), ("d/new", "file"), ("gone", "whiteout"), ("l", "link")),
    ]
    assert (done.upper / "d/new").read_text() == "new\n"


def test_what_is_written_beside_a_mount_point_stays(box: RungBox) -> None:
    """[MNT-22] also in a directory that exists only as a mount point's parent."""
    mounts = (StepMount(type=StepMountType.TMPFS, target="/a/b"),)
    done = box.sh("echo x > /a/beside; echo y > /a/b/inside", mounts=mounts)
    assert done.delta() == {"a": "dir", "a/beside": "file"}


def test_scratch_gets_its_mount_points_and_shows_no_trace(box: RungBox) -> None:
    box.lowers = ()
    program = StepMount(
        type=StepMountType.BIND_PATH, source="/bin/busybox", target="/busybox", readonly=True
    )
    done = box.run(
        "/busybox", "sh", "-c", "/busybox cat /etc/hosts; echo > /kept", mounts=(program,)
    )
    assert done.out == "127.0.0.1 localhost\n"
    assert done.delta() == {"kept": "file"}


@pytest.mark.parametrize("how", ["whiteout", "opaque", "dangling", "link"])
def test_mount_points_that_a_layer_hides_are_made_all_the_same(
    box: RungBox, tmp_path: Path, how: str
) -> None:
    """The bottom of the stack is out of sight then; the delta stays clean all the same."""
    layer = tmp_path / "layer"
    etc = layer / "etc"
    etc.mkdir(parents=True)
    os.utime(etc, (1, 12345))
    if how == "whiteout":
        os.mknod(etc / "hosts", stat.S_IFCHR, 0)
    elif how == "opaque":
        os.setxattr(etc, box.rung.overlay + "opaque", b"y")
    elif how == "dangling":
        (etc / "hosts").symlink_to("../run/deep/hosts")
    else:
        etc.rmdir()
        etc.symlink_to("/elsewhere")
    os.chmod(layer, 0o751)
    box.lowers = (*box.lowers, layer)
    done = box.sh("cat /etc/hosts; stat -c '%Y %a' /etc/; stat -c %a /")
    assert done.out.startswith("127.0.0.1 localhost\n"), done.err
    if how in ("whiteout", "opaque"):
        assert f"{int(etc.stat().st_mtime)} 755" in done.out
    assert done.out.endswith("751\n")
    assert done.delta() == {}


def test_root_directory_keeps_its_mode(box: RungBox) -> None:
    layer = box.lower()
    layer.chmod(0o700)
    box.chown(layer, 5, 6)
    assert box.sh("stat -c '%a %u %g' /").out == "700 5 6\n"


def test_kernel_directories_that_are_links_are_refused(box: RungBox, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    layer.mkdir()
    (layer / "proc").symlink_to("/etc")
    box.lowers = (*box.lowers, layer)
    with pytest.raises(UserError, match="/proc in the image is not a directory"):
        box.run("true")


def test_too_many_layers_are_refused_by_number(box: RungBox, tmp_path: Path) -> None:
    box.lowers = (*box.lowers, *(tmp_path / str(n) for n in range(500)))
    for lower in box.lowers[1:]:
        lower.mkdir(exist_ok=True)
    with pytest.raises(EnvironmentFault, match="50[12] layers: overlay takes at most 500"):
        box.run("true")


def test_a_layer_that_an_image_has_twice_is_mounted_once(box: RungBox) -> None:
    box.lowers *= 2
    assert box.run("true").status == 0
