"""Steps that mean harm, or only go wrong without end, on every rung: the builder survives them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pybuild.executor.steps.spec import StepLimits, StepMount, StepMountType
from pybuild.executor.zygote import hierarchies
from pybuild.model.errors import UserError
from tests.executor.contract.rungs import RungBox
from tests.executor.sandbox_helpers import HOST_PROGRAMS

pytestmark = [pytest.mark.root, pytest.mark.sandbox]
PYTHON = ("/usr/bin/python3", "-I", "-S", "-c")


@pytest.mark.slow
def test_forking_for_ever(box: RungBox) -> None:
    if not any("pids" in h.controllers and not h.problem for h in hierarchies.hierarchies()):
        pytest.skip("no pids cgroup")
    bomb = "bomb() { bomb | bomb & }; bomb; sleep 1; exit 7"
    # Where a user has no cgroup, the machine's own limit is thousands: the others here would notice.
    ulimits = () if box.rung.uid == 0 else (("nproc", 200, 200),)
    done = box.sh(bomb, limits=StepLimits(pids=200), ulimits=ulimits)
    if box.rung.uid == 0:  # a user has a limit of processes, and no cgroup to tell of it
        assert done.ended.out_of_processes
    assert box.run("true").status == 0


@pytest.mark.parametrize("place", ["/dev", "/dev/shm"])
def test_filling_memory_through_its_file_systems(box: RungBox, place: str) -> None:
    done = box.sh(f"cat /dev/zero > {place}/big; stat -c %s {place}/big")
    assert "No space left on device" in done.err
    assert int(done.out) <= 64 << 20


@pytest.mark.slow
def test_deleting_everything(box: RungBox, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    mounts = (
        StepMount(
            type=StepMountType.BIND_PATH, source=str(tmp_path / "kept"), target="/k", readonly=True
        ),
        StepMount(type=StepMountType.SECRET, target="/run/secrets/s", data=b"x"),
    )
    done = box.run("/bin/busybox", "rm", "-rf", "/", mounts=mounts)
    assert done.status == 1
    assert (tmp_path / "kept").read_text() == "kept"
    assert "bin" in done.delta()
    assert (box.lowers[0] / "bin/sh").exists()
    assert box.run("true").status == 0


def test_a_program_is_not_found_in_a_variable_with_a_nul(box: RungBox) -> None:
    done = box.run("true", env=("A=\0",))
    assert done.status == 126
    assert "null byte" in done.err


@pytest.mark.parametrize("kind", ["fifo", "directory", "huge"])
def test_accounts_that_are_no_file(box: RungBox, kind: str) -> None:
    etc = box.lower() / "etc"
    etc.mkdir()
    if kind == "fifo":
        os.mkfifo(etc / "passwd")
    elif kind == "directory":
        (etc / "passwd").mkdir()
    else:
        with open(etc / "passwd", "wb") as file:
            file.truncate(1 << 40)
    with pytest.raises(UserError, match="/etc/passwd in the image: "):
        box.run("true", user="app")


_REMOUNT = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
def mount(*args):
    ctypes.set_errno(0)
    done = libc.mount(*args)
    return "done" if done == 0 else errno.errorcode[ctypes.get_errno()]
REMOUNT, BIND, MOVE = 32, 4096, 8192
print(mount(b"none", b"/proc/sys", None, REMOUNT | BIND, None))
print(mount(b"none", b"/", None, REMOUNT, None))
print(mount(b"/", b"/mnt", None, BIND, None))
print(mount(b"proc", b"/mnt", b"proc", 0, None))
print("umount", libc.umount2(b"/proc/sys", 2), libc.umount2(b"/etc/hosts", 2))
"""


def test_remounting_is_refused(box: RungBox) -> None:
    done = box.run(*PYTHON, "import os; os.mkdir('/mnt')\n" + _REMOUNT, mounts=HOST_PROGRAMS)
    assert done.out.splitlines() == ["EPERM"] * 4 + ["umount -1 -1"], done.err


_TRACE = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
ATTACH, DETACH = 16, 17
alive = 0
for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
    if pid != os.getpid() and libc.ptrace(ATTACH, pid, 0, 0) == 0:
        print("attached", pid, open(f"/proc/{pid}/comm").read().strip())
print("pids", max(int(name) for name in os.listdir("/proc") if name.isdigit()))
"""


def test_tracing_stays_inside(box: RungBox) -> None:
    """It is allowed, and there is nobody but the step itself."""
    done = box.run(*PYTHON, _TRACE, mounts=HOST_PROGRAMS)
    lines = done.out.splitlines()
    assert done.status == 0, done.err
    assert not [line for line in lines if line.startswith("attached")]
    assert int(lines[-1].split()[1]) < 10


_DEEP = """
import os
os.mkdir("/deep"); os.chdir("/deep")
for _ in range(10_000):
    os.mkdir("d"); os.chdir("d")
open("f", "w").close()
"""


@pytest.mark.slow
def test_ten_thousand_directories_deep(box: RungBox) -> None:
    """A step can make them, and the next one runs on them; builds of them are in tests/security."""
    done = box.run(*PYTHON, _DEEP, mounts=HOST_PROGRAMS)
    assert done.status == 0, done.err
    box.lowers = (*box.lowers, done.upper)
    assert box.sh("test -d /deep/d/d/d && echo there").out == "there\n"
    assert box.sh("mv /etc/passwd /p").status == 0


def test_a_fifo_for_output_that_nobody_reads_ends_with_the_step(box: RungBox) -> None:
    done = box.sh("mkfifo /p; echo x > /p & echo ok")
    assert done.out == "ok\n"
