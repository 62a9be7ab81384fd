"""Steps in the sandbox: what they see, what they may do, and what they leave."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pybuild.executor.step import StepMount, StepMountType
from pybuild.executor.workers import Workers
from pybuild.model.errors import EnvironmentFault, UserError
from tests.executor.sandbox_helpers import (
    HOST_PROGRAMS,
    Box,
    make_base,
    skip_unless_possible,
)

pytestmark = [pytest.mark.root, pytest.mark.sandbox]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    skip_unless_possible()
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    skip_unless_possible()
    workers = Workers()
    yield workers
    asyncio.run(workers.close())


@pytest.fixture
def box(base: Path, tmp_path: Path, workers: Workers) -> Box:
    return Box(tmp_path, (base,), workers)


@pytest.fixture
def rootless_box(base: Path, tmp_path: Path) -> Iterator[Box]:
    workers = Workers(rootless=True)
    yield Box(tmp_path, (base,), workers)
    asyncio.run(workers.close())


def bind(source: Path | str, target: str, **changes: Any) -> StepMount:
    kind = StepMountType.BIND_PATH
    return StepMount(type=kind, source=str(source), target=target, **changes)


# --- ends [SBX-20] --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "status"),
    [("true", 0), ("false", 1), ("exit 3", 3), ("sh -c 'kill -9 $$'; exit $?", 137)],
)
def test_status_is_the_shells(box: Box, script: str, status: int) -> None:
    assert box.sh(script).status == status


def test_output_comes_on_two_streams_and_stdin_is_empty(box: Box) -> None:
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
    box: Box, args: tuple[str, ...], status: int, message: str
) -> None:
    done = box.run(*args)
    assert (done.status, done.err) == (status, message + "\n")


def test_background_processes_end_with_the_step(box: Box) -> None:
    """Nor does one that holds the output open keep the step from ending."""
    done = box.sh("sleep 1000 & echo started")
    assert (done.status, done.out) == (0, "started\n")
    assert done.ended.seconds < 5


def test_exit_tells_time_and_memory(box: Box) -> None:
    ended = box.run("true").ended
    assert 0 < ended.seconds < 10
    assert ended.max_rss_bytes > 100_000


# --- what a step sees -----------------------------------------------------------------------------


def test_namespaces_are_its_own(box: Box) -> None:
    """[SBX-1, SBX-11]"""
    done = box.sh(
        "echo $$; hostname; ps | wc -l; for n in /proc/self/ns/*; do readlink $n; done",
        hostname="inside",
    )
    first, name, processes, *spaces = done.out.split()
    assert (first, name) == ("1", "inside")
    assert processes in ("3", "4")  # header, sh, ps, and wc if it has begun
    ours = {os.readlink(f"/proc/self/ns/{n}") for n in ("pid", "mnt", "ipc", "uts", "cgroup")}
    assert not ours & set(spaces)
    assert os.readlink("/proc/self/ns/net") in spaces  # default network is the host's


def test_host_mounts_are_not_visible(box: Box) -> None:
    done = box.sh("cat /proc/self/mountinfo; ls /")
    points = {line.split()[4] for line in done.out.splitlines() if " - " in line}
    assert {"/", "/proc", "/dev", "/sys", "/etc/hosts"} <= points
    assert all(p == "/" or p.startswith(("/proc", "/dev", "/sys", "/etc/")) for p in points)


def test_no_descriptor_leaks_in(box: Box) -> None:
    done = box.sh("ls /proc/1/fd; true")
    assert done.out.split() == ["0", "1", "2"]


def test_kernel_paths_are_masked_and_read_only(box: Box) -> None:
    """[SBX-5, SBX-6]"""
    done = box.sh(
        "wc -c < /proc/timer_list; ls /sys/firmware | wc -l;"
        "echo 1 > /proc/sys/kernel/domainname; echo h > /proc/sysrq-trigger; touch /sys/x"
    )
    assert done.out.split() == ["0", "0"]
    assert done.err.count("Read-only file system") + done.err.count("ermission denied") >= 2
    assert "touch: /sys/x: Read-only file system" in done.err


def test_insecure_unmasks(box: Box) -> None:
    """[SBX-3]"""
    script = "grep CapEff /proc/self/status; grep Seccomp: /proc/self/status; ls /sys/firmware"
    done = box.sh(script + "; mkdir /m; mount -t tmpfs none /m", security="insecure")
    own = next(x for x in Path("/proc/self/status").read_text().splitlines() if "CapEff" in x)
    assert done.out.splitlines()[0] == own
    assert done.out.splitlines()[1].split()[1] == "0"
    assert (done.status, done.err) == (0, "")


def test_network_none_has_loopback_only(box: Box) -> None:
    """[RUN-5]"""
    done = box.sh("ip -o addr", network="none")
    assert {line.split()[1] for line in done.out.splitlines()} == {"lo"}
    assert "127.0.0.1/8" in done.out


def test_resolv_conf_and_hosts_are_given_and_read_only(box: Box) -> None:
    """[SBX-9, SBX-10]"""
    done = box.sh("cat /etc/resolv.conf /etc/hosts; echo x > /etc/hosts; rm /etc/resolv.conf")
    assert done.out == "nameserver 192.0.2.1\n127.0.0.1 localhost\n"
    assert "Read-only" in done.err
    assert "busy" in done.err
    assert done.delta() == {}


def test_devices_are_the_engines(box: Box) -> None:
    """[SBX-4, SBX-7]"""
    done = box.sh("ls /dev; echo x > /dev/null; stat -c %a /dev/shm; touch /dev/shm/f")
    names = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    assert done.out.split() == [*names.split(), "1777"]
    assert done.status == 0


def test_shm_size_is_as_asked(box: Box) -> None:
    done = box.sh("grep ' /dev/shm ' /proc/mounts", shm_size_bytes=1 << 20)
    assert "size=1024k" in done.out


# --- what a step may do ---------------------------------------------------------------------------


def test_capabilities_are_the_default_set(box: Box) -> None:
    """[SBX-2]"""
    done = box.sh("grep Cap /proc/self/status")
    caps = dict(line.split(":\t") for line in done.out.splitlines())
    default = "00000000a80425fb"
    assert (caps["CapInh"], caps["CapAmb"]) == ("0" * 16, "0" * 16)
    assert caps["CapPrm"] == caps["CapEff"] == caps["CapBnd"] == default


def test_other_users_have_no_capabilities_and_can_gain_them(box: Box) -> None:
    done = box.sh("grep Cap /proc/self/status", user="app")
    caps = dict(line.split(":\t") for line in done.out.splitlines())
    assert (caps["CapPrm"], caps["CapEff"]) == ("0" * 16, "0" * 16)
    assert caps["CapBnd"] == "00000000a80425fb"


def test_set_user_id_programs_work(box: Box, tmp_path: Path) -> None:
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
def test_system_calls_are_filtered_as_engines_do(box: Box) -> None:
    """[SBX-8]"""
    done = box.run("/usr/bin/python3", "-I", "-S", "-c", _PROBE, mounts=HOST_PROGRAMS)
    assert done.out.splitlines() == [
        *("unshare EPERM", "keyctl EPERM", "mount EPERM", "clone3 ENOSYS", "vsock EPERM"),
        *("inet ok", "ptrace ok", "personality EPERM", "io_uring EPERM", "future ENOSYS"),
    ], done.err


def test_device_nodes_can_be_made_and_not_opened(box: Box) -> None:
    """[SBX-7] wherever a step can write."""
    mounts = (StepMount(type=StepMountType.TMPFS, target="/t"),)
    for place in ("/node", "/dev/node", "/t/node"):
        done = box.sh(f"mknod {place} c 1 3 && echo made && echo x > {place}", mounts=mounts)
        assert done.out == "made\n", (place, done.err)
        assert "ermission denied" in done.err
    assert stat.S_ISCHR((box.directory / "step0/upper/node").stat().st_mode)


def test_ulimits_are_set(box: Box) -> None:
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
def test_user_is_looked_up_in_the_tree(box: Box, user: str, ids: str, home: str) -> None:
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
def test_unknown_users_are_named(box: Box, user: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        box.run("true", user=user)
    assert caught.value.message == message


def test_passwd_cannot_lead_out_of_the_root(box: Box, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    (layer / "etc").mkdir(parents=True)
    outside = tmp_path / "passwd"
    outside.write_text("evil:x:66:66::/:/bin/sh\n")
    (layer / "etc/passwd").symlink_to(outside)
    box.lowers = (*box.lowers, layer)
    with pytest.raises(UserError, match="unable to find user evil"):
        box.run("true", user="evil")


def test_a_fifo_as_passwd_does_not_hang(box: Box, tmp_path: Path) -> None:
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
def test_unknown_modes_are_refused(box: Box, changes: dict[str, str], message: str) -> None:
    """[RUN-5, RUN-6]"""
    with pytest.raises(UserError) as caught:
        box.run("true", **changes)
    assert caught.value.message == message


# --- environment and working directory ------------------------------------------------------------


def test_environment_is_what_is_given_and_path_and_home(box: Box) -> None:
    """[SBX-15]"""
    done = box.run("env", env=("A=1", "B=x=y", "A=2"))
    lines = set(done.out.split("\n"))
    assert {"A=2", "B=x=y", "HOME=/root"} <= lines
    assert any(line.startswith("PATH=/usr/local/sbin:") for line in lines)
    assert len(lines) == 5  # and the last, empty line


def test_cwd_is_made_for_the_user(box: Box) -> None:
    """[SBX-16]"""
    done = box.sh("pwd; stat -c '%u %g %a' /work /work/deep", cwd="/work/deep", user="app")
    assert done.out.split("\n")[:3] == ["/work/deep", "1000 1001 755", "1000 1001 755"]
    assert done.delta() == {"work": "dir", "work/deep": "dir"}


def test_cwd_through_a_link_stays_inside(box: Box, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    layer.mkdir()
    (layer / "out").symlink_to("../../../../tmp/escape")
    box.lowers = (*box.lowers, layer)
    done = box.sh("pwd", cwd="/out/dir")
    assert done.out == "/tmp/escape/dir\n"
    assert not Path("/tmp/escape").exists()


def test_cwd_that_is_a_file_is_refused(box: Box) -> None:
    with pytest.raises(UserError, match='working directory "/etc/passwd": not a directory'):
        box.run("true", cwd="/etc/passwd")


# --- the delta [RUN-4, MNT-22] --------------------------------------------------------------------


def test_a_step_that_does_nothing_leaves_nothing(box: Box) -> None:
    done = box.run("true", mounts=(StepMount(type=StepMountType.TMPFS, target="/a/b/c"),))
    assert done.delta() == {}


def test_changes_are_the_delta(box: Box, tmp_path: Path) -> None:
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


def test_what_is_written_beside_a_mount_point_stays(box: Box) -> None:
    """[MNT-22] also in a directory that exists only as a mount point's parent."""
    mounts = (StepMount(type=StepMountType.TMPFS, target="/a/b"),)
    done = box.sh("echo x > /a/beside; echo y > /a/b/inside", mounts=mounts)
    assert done.delta() == {"a": "dir", "a/beside": "file"}


def test_scratch_gets_its_mount_points_and_shows_no_trace(tmp_path: Path, workers: Workers) -> None:
    box = Box(tmp_path, (), workers)
    program = StepMount(
        type=StepMountType.BIND_PATH, source="/bin/busybox", target="/busybox", readonly=True
    )
    done = box.run("/busybox", "sh", "-c", "cat /etc/hosts; echo > /kept", mounts=(program,))
    assert done.out == "127.0.0.1 localhost\n"
    assert done.delta() == {"kept": "file"}


@pytest.mark.parametrize("how", ["whiteout", "opaque", "dangling", "link"])
def test_mount_points_that_a_layer_hides_are_made_all_the_same(
    box: Box, tmp_path: Path, how: str
) -> None:
    """The bottom of the stack is out of sight then; the delta stays clean all the same."""
    layer = tmp_path / "layer"
    etc = layer / "etc"
    etc.mkdir(parents=True)
    os.utime(etc, (1, 12345))
    if how == "whiteout":
        os.mknod(etc / "hosts", stat.S_IFCHR, 0)
    elif how == "opaque":
        os.setxattr(etc, "trusted.overlay.opaque", b"y")
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


def test_root_directory_keeps_its_mode(base: Path, box: Box, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    layer.mkdir(mode=0o700)
    os.chown(layer, 5, 6)
    box.lowers = (base, layer)
    assert box.sh("stat -c '%a %u %g' /").out == "700 5 6\n"


def test_kernel_directories_that_are_links_are_refused(box: Box, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    layer.mkdir()
    (layer / "proc").symlink_to("/etc")
    box.lowers = (*box.lowers, layer)
    with pytest.raises(UserError, match="/proc in the image is not a directory"):
        box.run("true")


# --- mounts ---------------------------------------------------------------------------------------


def test_bind_of_a_directory_and_of_a_file(box: Box, tmp_path: Path) -> None:
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


def test_bind_rw_that_is_thrown_away(box: Box, tmp_path: Path) -> None:
    """[MNT-5]"""
    (tmp_path / "src").mkdir()
    (tmp_path / "src/f").write_text("old")
    mounts = (bind(tmp_path / "src", "/m", discard_writes=True),)
    done = box.sh("echo new > /m/f; cat /m/f; rm /m/f; ls /m", mounts=mounts)
    assert done.out == "new\n"
    assert (tmp_path / "src/f").read_text() == "old"
    assert done.delta() == {}


def test_bind_of_deltas_with_a_selector(box: Box, tmp_path: Path) -> None:
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


def test_a_single_delta_does_not_show_its_whiteouts(box: Box, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    os.mknod(tmp_path / "one/gone", stat.S_IFCHR, 0)
    (tmp_path / "one/here").write_text("")
    kind, lowers = StepMountType.BIND_OVERLAY, (str(tmp_path / "one"),)
    mounts = (StepMount(type=kind, lowers=lowers, target="/m", readonly=True),)
    assert box.sh("ls /m", mounts=mounts).out == "here\n"


def test_missing_sources_are_named(box: Box, tmp_path: Path) -> None:
    with pytest.raises(UserError, match='mount source "/no": not found'):
        box.run("true", mounts=(bind(tmp_path, "/m", selector="/no"),))
    with pytest.raises(UserError, match='mount source ".*/absent": no such file'):
        box.run("true", mounts=(bind(tmp_path / "absent", "/m"),))


def test_selectors_cannot_leave_their_source(box: Box, tmp_path: Path) -> None:
    """[MNT-13]"""
    (tmp_path / "src").mkdir()
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "src/link").symlink_to("../secret")
    with pytest.raises(UserError, match='mount source "/link": not found'):
        box.run("true", mounts=(bind(tmp_path / "src", "/m", selector="/link"),))


def test_tmpfs_takes_size_and_is_lost(box: Box) -> None:
    """[MNT-9, MNT-23]"""
    kind = StepMountType.TMPFS
    mounts = (StepMount(type=kind, target="/t", size_bytes=1 << 20),)
    done = box.sh("grep ' /t ' /proc/mounts; echo x > /t/f; stat -c %a /t", mounts=mounts)
    assert "size=1024k" in done.out
    assert "nosuid" in done.out
    assert done.out.endswith("1777\n")
    assert done.delta() == {}


def test_secret_is_a_read_only_file_in_memory(box: Box) -> None:
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
    left = [path for path in Path(done.spec.work).rglob("*") if path.is_file()]
    assert all(b"tell" not in path.read_bytes() for path in left)


def test_mount_inside_a_mount(box: Box, tmp_path: Path) -> None:
    """[MNT-17] in whichever order they are given."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    mounts = (bind(tmp_path / "b", "/c/in/side"), bind(tmp_path / "a", "/c"))
    done = box.sh("echo x > /c/in/side/f; echo y > /c/f", mounts=mounts)
    assert done.status == 0, done.err
    assert (tmp_path / "b/f").read_text() == "x\n"
    assert (tmp_path / "a/f").read_text() == "y\n"
    assert done.delta() == {}


def test_mount_inside_a_read_only_mount_needs_its_mount_point(box: Box, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    mounts = (bind(tmp_path / "a", "/c", readonly=True), bind(tmp_path, "/c/in"))
    with pytest.raises(UserError, match='target "/c/in": its mount point is missing') as caught:
        box.run("true", mounts=mounts)
    assert caught.value.hints


def test_mount_targets_cannot_leave_the_root(box: Box, tmp_path: Path) -> None:
    """A link in the image leads to the same path inside the root."""
    outside = tmp_path / "outside"
    outside.mkdir()
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
    assert list(outside.iterdir()) == []
    assert done.delta() == {}


def test_mount_through_a_link_planted_in_a_cache_stays_inside(box: Box, tmp_path: Path) -> None:
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
def test_root_is_no_mount_target(box: Box, target: str) -> None:
    """[MNT-2]"""
    with pytest.raises(UserError, match='invalid mount target "/"'):
        box.run("true", mounts=(StepMount(type=StepMountType.TMPFS, target=target),))


def test_mount_target_of_the_wrong_kind_is_named(box: Box) -> None:
    mounts = (StepMount(type=StepMountType.TMPFS, target="/etc/passwd"),)
    with pytest.raises(UserError, match='"/etc/passwd": the source is a directory, the target'):
        box.run("true", mounts=mounts)
    mounts = (StepMount(type=StepMountType.TMPFS, target="/etc/passwd/x"),)
    with pytest.raises(UserError, match='mount target "/etc/passwd/x": not a directory'):
        box.run("true", mounts=mounts)


# --- in a user namespace --------------------------------------------------------------------------


def test_user_namespace_gives_the_same_step(rootless_box: Box, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    (layer / "d").mkdir(parents=True)
    (layer / "gone").write_text("")
    rootless_box.lowers = (*rootless_box.lowers, layer)
    done = rootless_box.sh(
        "grep CapEff /proc/self/status; cat /etc/hosts; echo x > /dev/null; rm /gone;"
        "rm -r /d; mkdir /d; touch /d/f; chown 33:33 /d/f; ls /proc/1/fd; true"
    )
    assert (done.status, done.err) == (0, "")
    assert done.out == "CapEff:\t00000000a80425fb\n127.0.0.1 localhost\n0\n1\n2\n"
    assert done.delta() == {"gone": "whiteout", "d": "opaque", "d/f": "file"}
    assert "user.overlay.opaque" in os.listxattr(done.upper / "d")
    assert (done.upper / "d/f").stat().st_uid == 33


def test_user_namespace_without_network(rootless_box: Box) -> None:
    done = rootless_box.sh("ip -o addr; grep -c . /proc/net/dev", network="none")
    assert done.status == 0, done.err
    assert "127.0.0.1/8" in done.out


def test_too_many_layers_are_refused_by_number(box: Box, base: Path, tmp_path: Path) -> None:
    box.lowers = (base, *(tmp_path / str(n) for n in range(500)))
    for lower in box.lowers[1:]:
        lower.mkdir(exist_ok=True)
    with pytest.raises(EnvironmentFault, match="50[12] layers: overlay takes at most 500"):
        box.run("true")


def test_a_layer_that_an_image_has_twice_is_mounted_once(box: Box, base: Path) -> None:
    box.lowers = (base, base)
    assert box.run("true").status == 0
