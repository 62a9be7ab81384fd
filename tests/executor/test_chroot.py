"""Steps of root in a container that may neither mount nor make namespaces [SBX, MNT]."""

from __future__ import annotations

import base64
import io
import os
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pybuild.executor.zygote import landlock
from tests.executor.jail import WITHOUT_SETPCAP
from tests.executor.jailed import Jail, jail
from tests.executor.sandbox_helpers import skip_unless_possible
from tests.security import rawcalls
from tests.security.rawcalls import Call

pytestmark = [pytest.mark.root, pytest.mark.sandbox]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jail]:
    skip_unless_possible()
    with jail(tmp_path_factory.mktemp("jail")) as made:
        assert made.rung() == "chroot"
        yield made


def secret(target: str, data: bytes = b"hush-hush-4711", **more: Any) -> dict[str, Any]:
    encoded = base64.b64encode(data).decode()
    return {"type": "secret", "target": target, "data": encoded, "readonly": True, **more}


def names(layer: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        return tar.getnames()


# --- what a step finds and leaves -----------------------------------------------------------------


def test_a_step_leaves_what_it_changed_and_nothing_of_what_was_put_in_for_it(box: Jail) -> None:
    done = box.sh("echo hi > /etc/new; chmod 600 /etc/passwd; rm /bin/wc; mkdir -p /a/b; ls /dev")
    assert done.status == 0, done
    assert "null" in done.out.split() and "urandom" in done.out.split()
    assert done.delta() == {
        "a": "dir",
        "a/b": "dir",
        "bin": "dir",
        "bin/wc": "whiteout",
        "etc": "dir",
        "etc/new": "file",
        "etc/passwd": "file",
    }


@pytest.mark.slow
def test_a_step_that_changes_nothing_leaves_an_empty_delta(box: Jail) -> None:
    assert box.sh("cat /etc/passwd > /dev/null; ls -lR /bin > /dev/null").delta() == {}


@pytest.mark.slow
def test_what_lies_beneath_a_snapshot_is_never_written_to(box: Jail) -> None:
    before = Path(box.lowers[0], "etc/passwd").read_bytes()
    assert box.sh("echo x >> /etc/passwd; : > /bin/busybox").status == 0
    assert Path(box.lowers[0], "etc/passwd").read_bytes() == before
    assert Path(box.lowers[0], "bin/busybox").stat().st_size


@pytest.mark.slow
def test_changing_one_name_of_a_file_leaves_its_other_names(box: Jail) -> None:
    """As overlay has it, which copies one name up."""
    assert box.sh("echo '#' >> /bin/wc; : < /bin/head").delta() == {"bin": "dir", "bin/wc": "file"}


@pytest.mark.slow
def test_a_directory_in_the_place_of_what_was_there_hides_it(box: Jail) -> None:
    done = box.sh("rm -r /etc; mkdir /etc; rm /bin/wc; mkdir /bin/wc; mkdir /new; rm /bin/find")
    assert done.delta() == {
        "etc": "opaque",
        "bin": "dir",
        "bin/wc": "opaque",
        "bin/find": "whiteout",
        "new": "dir",
    }


@pytest.mark.slow
def test_a_moved_parent_does_not_take_what_was_put_into_it_along(box: Jail) -> None:
    done = box.sh("mv /etc /etc2; mkdir /etc; mv /dev /dev2")
    assert done.delta()["etc2"] == "dir"
    assert sorted(p.name for p in (done.upper / "etc2").iterdir()) == ["group", "passwd"]
    assert "dev2" not in done.delta()


def test_ids_are_those_of_the_image_and_the_rest_is_gone(box: Jail) -> None:
    done = box.sh("id; grep Cap /proc/self/status; touch /etc/no", user="app", cwd="/home/app/x")
    assert "uid=1000(app) gid=1001(app) groups=1001(app),2000(extra)" in done.out
    assert done.status != 0
    made = (done.upper / "home/app/x").stat()
    assert (made.st_uid, made.st_gid) == (1000, 1001)


def test_the_way_out_of_a_changed_root_is_closed(box: Jail) -> None:
    """Another chroot(2) with a directory outside of it, and tracing who is outside."""
    assert "not permitted" in box.sh("mkdir /x; busybox chroot /x /bin/true 2>&1").out
    caps = box.sh(
        "ulimit -c > /dev/null; busybox chroot . /bin/true; busybox mount -t proc p /proc"
    )
    assert caps.status != 0


@pytest.mark.slow
def test_nobody_stays_behind(box: Jail) -> None:
    mark = f"sleep 11{os.getpid()}"
    done = box.sh(f"(trap '' TERM HUP; {mark} & exec {mark}) > /dev/null 2>&1 & echo x")
    assert (done.status, done.out) == (0, "x\n")
    assert not running(f"{mark}$")


@pytest.mark.slow
def test_what_forks_without_end_is_ended(box: Jail) -> None:
    """Each process makes the next one and is gone: never many, so that no other test starves, and
    never those that were there a moment ago."""
    mark = f"forking-{os.getpid()}"
    done = box.sh(
        f"f() {{ f & }}; for i in 1 2 3 4 5 6 7 8; do f {mark} & done > /dev/null 2>&1; echo x",
        ulimits=[("nproc", 200, 200)],
    )
    assert done.out.startswith("x")
    assert not running(mark)


@pytest.mark.slow
def test_cancelling_ends_the_step_in_bounded_time_and_returns_its_cache(
    box: Jail, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    mark = f"sleep 12{os.getpid()}"
    done = box.sh(
        f"trap '' TERM; touch /c/kept; {mark} & echo ready; {mark}; {mark}",
        mounts=[
            {"type": "bind-path", "source": f"{tmp_path}/cache", "target": "/c", "exclusive": True}
        ],
        cancel_after="ready",
    )
    assert done.error == "cancelled"
    assert not running(f"{mark}$")
    assert (tmp_path / "cache/kept").exists()


def running(pattern: str) -> bool:
    done = subprocess.run(["pgrep", "-f", pattern], check=False, capture_output=True)
    return done.returncode == 0


@pytest.mark.slow
def test_a_status_and_a_signal_are_told_as_a_shell_has_them(box: Jail) -> None:
    assert box.sh("exit 7").status == 7
    assert box.sh("kill -9 $$").status == 137
    assert box.sh("x", args=["/no/such"]).status == 127


@pytest.mark.slow
def test_no_second_chroot_leads_out_of_the_first(tmp_path: Path) -> None:
    """Nor where a container may not say what a program of root's can have (CAP_SETPCAP)."""
    skip_unless_possible()
    for options in ((), (WITHOUT_SETPCAP,)):
        place = tmp_path / f"with{len(options)}"
        place.mkdir()
        with jail(place, *options) as box:
            assert box.rung() == "chroot"
            calls: list[Call] = [(83, (b"/j", 0o755)), (161, (b"/j",)), (41, (17, 3, 0x300))]
            rawcalls.build(place / "base/bin/leave", calls)
            done = box.sh("/bin/leave")
            # mkdir, chroot, a socket that reads what others say
            assert rawcalls.results(done.out) == [0, -1, -1], options


@pytest.mark.slow
@pytest.mark.parametrize(("options", "reached"), [((), 0), ((WITHOUT_SETPCAP,), -1)])
def test_abstract_sockets_lead_to_other_steps_where_programs_may_gain_privileges(
    tmp_path: Path, options: tuple[str, ...], reached: int
) -> None:
    """With 0 a step can hand another one a directory outside of its root: docs/security.md, *not kept*."""
    skip_unless_possible()
    if not landlock.possible():
        pytest.skip("no kernel that keeps abstract sockets apart")
    name = f"pybuild-{os.urandom(6).hex()}"
    address = b"\x01\x00\x00" + name.encode()
    with socket.socket(socket.AF_UNIX) as listener, jail(tmp_path, *options) as box:
        listener.bind("\0" + name)
        listener.listen()
        rawcalls.build(
            box.place / "base/bin/connect", [(41, (1, 1, 0)), (42, (3, address, len(address)))]
        )
        made, connected = rawcalls.results(box.sh("/bin/connect").out)
        assert (made, connected) == (3, reached)


def test_the_builder_is_not_traced(box: Jail) -> None:
    """Process 1 of the jail has what the builder has, and that is more than a step has."""
    # ptrace to attach and to seize, pidfd_open, pidfd_getfd
    calls: list[Call] = [(101, (16, 1, 0, 0)), (101, (0x4206, 1, 0, 0))]
    calls += [(434, (1, 0)), (438, (3, 0, 0))]
    rawcalls.build(box.place / "base/bin/trace", calls)
    assert rawcalls.results(box.sh("/bin/trace").out) == [-1, -1, 3, -1]


# --- mounts ---------------------------------------------------------------------------------------


def test_a_secret_is_there_and_reaches_no_layer(box: Jail) -> None:
    done = box.sh(
        "cat /run/secrets/s; ls -l /run/secrets/s; mv /run/secrets/s /stolen; ln /stolen /again;"
        "touch /mine",
        mounts=[secret("/run/secrets/s", uid=1000, gid=7, mode=0o440)],
    )
    assert "hush-hush-4711" in done.out and "-r--r-----" in done.out
    layer = box.layer(done)
    assert b"hush" not in layer
    assert names(layer) == ["mine"]


@pytest.mark.slow
def test_no_secret_is_left_on_the_disk(box: Jail) -> None:
    done = box.sh("cat /s", mounts=[secret("/s", b"left-behind-0815")])
    found = subprocess.run(
        ["grep", "-rl", "left-behind-0815", str(done.upper.parent)],
        check=False,
        capture_output=True,
    )
    assert found.stdout == b""


@pytest.mark.slow
def test_a_cache_is_the_real_one_and_no_part_of_the_layer(box: Jail, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "old").write_text("old")
    mount = {"type": "bind-path", "source": str(cache), "target": "/c/d", "exclusive": True}
    done = box.sh("cat /c/d/old; echo new > /c/d/new; echo x > /x", mounts=[mount])
    assert (done.status, done.out) == (0, "old")
    assert (cache / "new").read_text() == "new\n"
    assert done.delta() == {"x": "file"}


@pytest.mark.slow
def test_writes_to_a_bound_snapshot_are_lost(box: Jail) -> None:
    mount = {"type": "bind-overlay", "lowers": box.lowers, "target": "/m", "selector": "/etc"}
    done = box.sh("cat /m/group; echo x >> /m/passwd; rm /m/group", mounts=[mount])
    assert done.status == 0 and "root:x:0:" in done.out
    assert done.delta() == {}
    assert Path(box.lowers[0], "etc/group").exists()


@pytest.mark.slow
def test_a_file_can_be_bound_over_a_file(box: Jail) -> None:
    mount = {
        "type": "bind-overlay",
        "lowers": box.lowers,
        "target": "/etc/group",
        "selector": "/etc/passwd",
    }
    done = box.sh("cat /etc/group", mounts=[mount])
    assert done.out.startswith("root:x:0:0")
    assert done.delta() == {}


@pytest.mark.slow
def test_a_tmpfs_is_an_empty_directory_and_says_what_it_cannot(box: Jail) -> None:
    mount = {"type": "tmpfs", "target": "/etc", "size_bytes": 4096}
    done = box.sh("ls /etc; echo x > /etc/y", mounts=[mount])
    assert "the size of the tmpfs on /etc is not enforced" in done.out
    assert done.delta() == {}


@pytest.mark.slow
def test_what_is_kept_of_a_mount_is_its_difference(box: Jail, tmp_path: Path) -> None:
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    mount = {
        "type": "bind-overlay",
        "lowers": box.lowers,
        "target": "/m",
        "upper": f"{tmp_path}/upper",
        "work": f"{tmp_path}/work",
    }
    done = box.sh("echo x > /m/x; rm /m/etc/group", mounts=[mount])
    assert done.delta() == {}
    kept = sorted(str(p.relative_to(tmp_path / "upper")) for p in (tmp_path / "upper").rglob("*"))
    assert kept == ["etc", "etc/group", "x"]


@pytest.mark.slow
def test_a_target_of_the_wrong_kind_is_refused(box: Jail) -> None:
    done = box.sh("true", mounts=[secret("/etc")])
    assert done.error == 'mount target "/etc": the source is a file, the target is not'


# --- what cannot be had ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"network": "none"}, "network mode none needs a network namespace"),
        ({"network": "isolated"}, "network mode isolated needs a network namespace"),
        ({"security": "insecure"}, "security mode insecure needs mounts"),
    ],
)
def test_what_needs_a_namespace_is_refused(box: Jail, changes: dict[str, Any], error: str) -> None:
    done = box.sh("echo never", **changes)
    assert done.error.startswith(error) and done.out == ""
    assert done.hints == ("see pybuild doctor for what would allow it",)


@pytest.mark.slow
def test_a_writable_directory_of_the_host_is_refused(box: Jail, tmp_path: Path) -> None:
    done = box.sh("true", mounts=[{"type": "bind-path", "source": str(tmp_path), "target": "/h"}])
    assert done.error.endswith("a copy would not take writes back to it")


@pytest.mark.slow
def test_a_deep_tree_is_copied_and_compared(box: Jail) -> None:
    script = "i=0; while [ $i -lt 1500 ]; do mkdir d && cd d || exit 1; i=$((i+1)); done; touch end"
    done = box.sh(script, cwd="/deep")
    assert done.status == 0, done
    box.lowers.append(str(done.upper))
    try:
        again = box.sh("rm -r /deep/d/d")
    finally:
        box.lowers.pop()
    assert again.delta() == {"deep": "dir", "deep/d": "dir", "deep/d/d": "whiteout"}, again
    subprocess.run(["rm", "-rf", str(done.upper)], check=True)
    assert os.path.isdir(box.place)
