"""A step's process: how it ends, who it is, what it may do, and its environment."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from pybuild.model.errors import UserError
from tests.executor.contract.rungs import RungBox
from tests.executor.sandbox_helpers import HOST_PROGRAMS

pytestmark = [pytest.mark.root, pytest.mark.sandbox]


# --- ends [SBX-20] --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "status"),
    [("true", 0), ("false", 1), ("exit 3", 3), ("sh -c 'kill -9 $$'; exit $?", 137)],
)
def test_status_is_the_shells(box: RungBox, script: str, status: int) -> None:
    assert box.sh(script).status == status


def test_output_comes_on_two_streams_and_stdin_is_empty(box: RungBox) -> None:
    """[RUN-2]"""
    done = box.sh("echo out; echo err >&2; cat; wc -c < /dev/stdin")
    assert (done.out, done.err) == ("out\n0\n", "err\n")


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (("nope",), 127, 'exec: "nope": executable file not found in $PATH'),
        (("/nope",), 127, 'exec: "/nope": no such file or directory'),
        (("/etc/passwd",), 126, 'exec: "/etc/passwd": permission denied'),
        (("/bin",), 126, 'exec: "/bin": permission denied'),
    ],
)
def test_programs_that_cannot_run_say_so_as_engines_do(
    box: RungBox, args: tuple[str, ...], status: int, message: str
) -> None:
    done = box.run(*args)
    assert done.status == status
    if box.rung.runtime:
        assert args[0] in done.err or "exec" in done.err  # in its own words
    else:
        assert done.err == message + "\n"


def test_background_processes_end_with_the_step(box: RungBox) -> None:
    """Nor does one that holds the output open keep the step from ending."""
    done = box.sh("sleep 1000 & echo started")
    assert (done.status, done.out) == (0, "started\n")
    assert done.ended.seconds < 1000


def test_exit_tells_time_and_memory(box: RungBox) -> None:
    began = time.monotonic()
    ended = box.run("true").ended
    assert 0 < ended.seconds <= time.monotonic() - began
    assert ended.max_rss_bytes > 100_000


# --- what a step may do ---------------------------------------------------------------------------


def test_capabilities_are_the_default_set(box: RungBox) -> None:
    """[SBX-2]"""
    done = box.sh("grep Cap /proc/self/status")
    caps = dict(line.split(":\t") for line in done.out.splitlines())
    default = "00000000a80425fb"
    assert (caps["CapInh"], caps["CapAmb"]) == ("0" * 16, "0" * 16)
    assert caps["CapPrm"] == caps["CapEff"] == caps["CapBnd"] == default


def test_other_users_have_no_capabilities_and_can_gain_them(box: RungBox) -> None:
    done = box.sh("grep Cap /proc/self/status", user="app")
    caps = dict(line.split(":\t") for line in done.out.splitlines())
    assert (caps["CapPrm"], caps["CapEff"]) == ("0" * 16, "0" * 16)
    assert caps["CapBnd"] == "00000000a80425fb"


def test_set_user_id_programs_work(box: RungBox, tmp_path: Path) -> None:
    """[SBX-8] no_new_privs is off and the root is not nosuid."""
    layer = tmp_path / "layer"
    (layer / "bin").mkdir(parents=True)
    shutil.copy("/usr/bin/id", layer / "bin/real-id")
    os.chmod(layer / "bin/real-id", 0o4755)
    box.lowers = (*box.lowers, layer)
    done = box.sh("grep NoNewPrivs /proc/self/status; real-id", user="app", mounts=HOST_PROGRAMS)
    assert "NoNewPrivs:\t0" in done.out
    assert "euid=0(root)" in done.out


_PROBE = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    ctypes.set_errno(0)
    return "ok" if libc.syscall(*args) >= 0 else errno.errorcode[ctypes.get_errno()]
print("unshare", call(272, 0x10000000))
print("keyctl", call(250, 0, -3, 0))
print("mount", call(165, b"none", b"/tmp", b"tmpfs", 0, None))
print("clone3", call(435, None, 0))
print("vsock", call(41, 40, 1, 0))
print("inet", call(41, 2, 1, 0))
print("ptrace", call(101, 0, 0, 0, 0))
print("personality", call(135, 0x0040000))
print("io_uring", call(425, 1, None))
print("future", call(5000))
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="call numbers of x86_64")
@pytest.mark.skipif(not os.path.exists("/usr/bin/python3"), reason="needs /usr/bin/python3")
def test_system_calls_are_filtered_as_engines_do(box: RungBox) -> None:
    """[SBX-8]"""
    done = box.run("/usr/bin/python3", "-I", "-S", "-c", _PROBE, mounts=HOST_PROGRAMS)
    # A runtime's rules cannot say "any other value" in a way that its library understands.
    other = "ENOSYS" if box.rung.runtime else "EPERM"
    assert done.out.splitlines() == [
        *("unshare EPERM", "keyctl EPERM", "mount EPERM", "clone3 ENOSYS", "vsock EPERM"),
        *("inet ok", "ptrace ok", f"personality {other}", "io_uring EPERM", "future ENOSYS"),
    ], done.err


def test_ulimits_are_set(box: RungBox) -> None:
    """[SBX-12]"""
    done = box.sh("ulimit -n; ulimit -Hn", ulimits=(("nofile", 100, 200),))
    assert done.out.split() == ["100", "200"], done.err
    with pytest.raises(UserError, match='ulimit "bogus" is not one of as, core'):
        box.sh("true", ulimits=(("bogus", 1, 1),))
    with pytest.raises(UserError, match="ulimit nofile=5:1: soft limit is above"):
        box.sh("true", ulimits=(("nofile", 5, 1),))


# --- users [USR-1, SBX-14] ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "ids", "home"),
    [
        ("", "uid=0(root) gid=0(root) groups=0(root)", "/root"),
        ("app", "uid=1000(app) gid=1001(app) groups=1001(app),2000(extra)", "/home/app"),
        ("1000", "uid=1000(app) gid=1001(app) groups=1001(app),2000(extra)", "/home/app"),
        ("app:lone", "uid=1000(app) gid=3000(lone) groups=3000(lone)", "/home/app"),
        ("app:7", "uid=1000(app) gid=7 groups=7", "/home/app"),
        ("42", "uid=42 gid=0(root) groups=0(root)", "/"),
        ("42:43", "uid=42 gid=43 groups=43", "/"),
    ],
)
def test_user_is_looked_up_in_the_tree(box: RungBox, user: str, ids: str, home: str) -> None:
    done = box.sh("id; echo $HOME", user=user)
    assert _ids(done.out.splitlines()[0]) == _ids(ids)
    assert done.out.splitlines()[1] == home


def _ids(text: str) -> dict[str, set[str]]:
    """Read what id prints; without a groups field the group is the only one."""
    fields = dict(part.split("=") for part in text.split())
    numbers = {
        key: {item.split("(")[0] for item in value.split(",")} for key, value in fields.items()
    }
    return {"groups": numbers["gid"], **numbers}


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("x", "unable to find user x: no matching entries in passwd file"),
        ("app:x", "unable to find group x: no matching entries in group file"),
        ("4294967296", 'user "4294967296": uids and gids must be in range 0-2147483647'),
    ],
)
def test_unknown_users_are_named(box: RungBox, user: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        box.run("true", user=user)
    assert caught.value.message == message


def test_passwd_cannot_lead_out_of_the_root(box: RungBox, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    (layer / "etc").mkdir(parents=True)
    outside = tmp_path / "passwd"
    outside.write_text("evil:x:66:66::/:/bin/sh\n")
    (layer / "etc/passwd").symlink_to(outside)
    box.lowers = (*box.lowers, layer)
    with pytest.raises(UserError, match="unable to find user evil"):
        box.run("true", user="evil")


def test_a_fifo_as_passwd_does_not_hang(box: RungBox, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    (layer / "etc").mkdir(parents=True)
    os.mkfifo(layer / "etc/passwd")
    box.lowers = (*box.lowers, layer)
    with pytest.raises(UserError, match="/etc/passwd in the image: not a regular file"):
        box.run("true", user="app")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "x"}, "invalid network mode: x"),
        ({"security": "x"}, 'security "x" is not valid'),
    ],
)
def test_unknown_modes_are_refused(box: RungBox, changes: dict[str, str], message: str) -> None:
    """[RUN-5, RUN-6]"""
    with pytest.raises(UserError) as caught:
        box.run("true", **changes)
    assert caught.value.message == message


# --- environment and working directory ------------------------------------------------------------


def test_environment_is_what_is_given_and_path_and_home(box: RungBox) -> None:
    """[SBX-15]"""
    done = box.run("env", env=("A=1", "B=x=y", "A=2"))
    lines = set(done.out.split("\n"))
    assert {"A=2", "B=x=y", "HOME=/root"} <= lines
    assert any(line.startswith("PATH=/usr/local/sbin:") for line in lines)
    assert len(lines) == 5  # and the last, empty line


def test_cwd_is_made_for_the_user(box: RungBox) -> None:
    """[SBX-16]"""
    done = box.sh("pwd; stat -c '%u %g %a' /work /work/deep", cwd="/work/deep", user="app")
    assert done.out.split("\n")[:3] == ["/work/deep", "1000 1001 755", "1000 1001 755"]
    assert done.delta() == {"work": "dir", "work/deep": "dir"}


def test_cwd_through_a_link_stays_inside(box: RungBox, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    layer.mkdir()
    (layer / "out").symlink_to("../../../../tmp/escape")
    box.lowers = (*box.lowers, layer)
    done = box.sh("pwd", cwd="/out/dir")
    assert done.out == "/tmp/escape/dir\n"
    assert not Path("/tmp/escape").exists()


def test_cwd_that_is_a_file_is_refused(box: RungBox) -> None:
    with pytest.raises(UserError, match='working directory "/etc/passwd": not a directory'):
        box.run("true", cwd="/etc/passwd")
