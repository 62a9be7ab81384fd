"""How steps are ended, how their output flows, and that their layers are the same on all rungs."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from pathlib import Path

import pytest

from pybuild.executor.steps.spec import StepLimits, StepMount, StepMountType
from pybuild.model.errors import EnvironmentFault, UserError
from tests.executor.contract.rungs import RungBox

pytestmark = [pytest.mark.root, pytest.mark.sandbox]


def running(command: str) -> bool:
    """Whether a process has *command* as its command line, wherever it was moved."""
    found = subprocess.run(["pgrep", "-f", f"^{command}$"], check=False, capture_output=True)
    return bool(found.stdout)


# --- ends [SBX-20] --------------------------------------------------------------------------------


def test_cancel_ends_a_step_that_does_not_listen(box: RungBox) -> None:
    mark = f"sleep 11{os.getpid()}"
    box.cancel(f"echo x; {mark}; true")
    assert not running(mark)


def test_cancel_lets_a_step_that_listens_clean_up(box: RungBox) -> None:
    script = "trap 'echo bye; exit 0' TERM; echo x; while :; do sleep 0.01; done"
    assert box.cancel(script)[1] == "x\nbye\n"


@pytest.mark.slow
def test_cancel_kills_a_step_that_refuses(box: RungBox) -> None:
    mark = f"sleep 12{os.getpid()}"
    script = f"trap 'echo no' TERM; {mark} & echo x; while :; do sleep 0.01; done"
    seconds, out = box.cancel(script)
    assert seconds > 0.2
    assert out in ("x\n", "x\nno\n")  # a busy machine may be slower than the grace
    assert not running(mark)


@pytest.mark.parametrize("seconds", [0.0, 0.003, 0.01, 0.03])
def test_cancel_at_any_moment_leaves_a_builder_that_works(box: RungBox, seconds: float) -> None:
    mark = f"sleep 13{os.getpid()}"
    box.cancel(f"echo x; for i in 1 2 3; do setsid {mark} & done; {mark}", after=seconds)
    assert not running(mark)
    assert box.run("true").status == 0


def test_daemons_end_with_the_step(box: RungBox) -> None:
    mark = f"sleep 14{os.getpid()}"
    script = f"for i in 1 2 3; do (trap '' TERM HUP INT; exec setsid {mark}) & done; echo ok"
    done = box.sh(script)
    assert done.out == "ok\n"
    assert not running(mark)


def test_a_script_of_another_machine_says_what_it_is(box: RungBox) -> None:
    """The error's hint is made of these words."""
    layer = box.lower()
    (layer / "bin").mkdir()
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00" + bytes(200)  # for aarch64
    (layer / "bin/foreign").write_bytes(header)
    (layer / "bin/foreign").chmod(0o755)
    done = box.run("/bin/foreign")
    assert done.status != 0
    assert "exec format error" in done.err.lower()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"echo hello\n", "no program, and no script with a first line #!"),
        (b"", "the file is empty"),
        (
            b"\x7fELF\x02\x02\x01" + bytes(9) + b"\x00\x02\x00\x16" + bytes(200),
            f"a program for s390x, and this is {os.uname().machine}",
        ),
    ],
)
def test_a_file_that_the_kernel_cannot_run_is_looked_at(
    box: RungBox, content: bytes, reason: str
) -> None:
    layer = box.lower()
    (layer / "bin").mkdir()
    (layer / "bin/odd").write_bytes(content)
    (layer / "bin/odd").chmod(0o755)
    done = box.run("/bin/odd")
    assert done.status != 0
    if "exec: " in done.err:  # our own words, not a runtime's
        assert f'exec: "/bin/odd": exec format error: {reason}' in done.err


# --- output ---------------------------------------------------------------------------------------


def test_much_output_arrives_whole_and_in_order(box: RungBox) -> None:
    script = "i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done"
    assert box.sh(script).out == "".join(f"line {i}\n" for i in range(5000))


@pytest.mark.slow
def test_output_without_end_takes_no_memory(box: RungBox) -> None:
    """A tenth of a gigabyte passes through; what the builder keeps of it is bounded."""
    spec = box.spec("/bin/sh", "-c", "head -c 100000000 /dev/zero")
    told = box.watch(spec, keep=0)
    assert (told["seen"], told["ended"].status) == (100_000_000, 0)
    assert told["grown"] < 32 << 20


@pytest.mark.slow
def test_a_slow_reader_slows_the_step_down(box: RungBox) -> None:
    """Nothing is buffered without bound between a step and whoever listens."""
    told = box.watch(box.spec("/bin/cat", "/dev/zero"), keep=0, slowly=0.002, cancel=0.3)
    assert 0 < told["seen"] < 64 << 20
    assert told["grown"] < 32 << 20


# --- limits ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_limit_of_memory_is_said_to_be_the_reason(box: RungBox) -> None:
    """[SBX-13]"""
    limits = StepLimits(memory_bytes=48 << 20, memory_swap_bytes=48 << 20)
    script = "x=0123456789abcdef; while [ ${#x} -lt 100000000 ]; do x=$x$x; done"
    done = box.sh(script, limits=limits)
    if done.status == 0 and any("not enforced" in text for text in done.ended.warnings):
        pytest.skip("this rung's user is given no memory cgroup here")
    assert done.status == 137
    assert done.ended.oom_killed
    assert done.ended.peak_memory_bytes > 16 << 20


@pytest.mark.slow
def test_a_limit_of_processes_is_kept_or_said_not_to_be(box: RungBox) -> None:
    """[SBX-13] Never half: what bounds a user bounds the steps beside this one with it.

    The threads of an OCI runtime count, too.
    """
    # All at once, however slow the machine is: they end with the first process.
    script = "i=0; while [ $i -lt 60 ]; do sleep 60 & i=$((i+1)); done; echo all"
    done = box.sh(script, limits=StepLimits(pids=40))
    if done.ended.warnings:
        lost = "no pids cgroup here, so pids is not enforced (see pybuild doctor)"
        assert done.ended.warnings == (lost,)
        assert (done.status, done.out) == (0, "all\n")
    else:
        assert done.status != 0 and "can't fork" in done.err
        assert done.ended.out_of_processes
    enough = box.sh(script, limits=StepLimits(pids=120))
    assert (enough.status, enough.out) == (0, "all\n")


@pytest.mark.slow
def test_a_runtime_that_has_too_few_processes_says_so(box: RungBox) -> None:
    """The threads of runc, where a cgroup counts them, are too many; nobody else needs as much."""
    try:
        assert box.sh("true", limits=StepLimits(pids=10)).status == 0
    except EnvironmentFault as fault:
        assert box.rung.options["runtime"] == "runc"
        assert fault.hints[0] == "runc's own threads count among pids=10: allow more"


def test_a_limit_that_cannot_be_had_is_clamped_and_said(box: RungBox) -> None:
    """[BLD-23]"""
    done = box.sh("ulimit -Hn", ulimits=(("nofile", 1 << 40, 1 << 40),))
    assert done.status == 0, done.err
    assert int(done.out) < 1 << 40
    assert any("ulimit nofile=" in warning for warning in done.ended.warnings)


# --- layers ---------------------------------------------------------------------------------------

_LAYERS: dict[str, str] = {}
_FILL = """
mkdir -p /srv/a /srv/b /srv/c; echo hi > /srv/a/f; ln /srv/a/f /srv/b/hard; ln -s f /srv/a/soft
chown 70:71 /srv/a /srv/a/f; chown -h 5:6 /srv/a/soft; chmod 2751 /srv/b; chmod 1777 /srv/c
echo x > /srv/suid; chmod 4755 /srv/suid; mkfifo /srv/p; chown 8:9 /srv/p
rm /gone; rm -r /tree; mkdir /tree; echo new > /tree/new; chmod 600 /etc/passwd; mv /moved /there
echo more >> /two
find /srv /tree /there /two -exec touch -h -d '@1000' {} +; touch -d @1000 /etc/passwd /etc /
"""


def test_the_same_steps_make_the_same_layer(box: RungBox) -> None:
    """Owners, modes, links, whiteouts and opaque directories, to the byte on every rung."""
    layer = box.lower()
    (layer / "tree/deep").mkdir(parents=True)
    (layer / "tree/deep/old").write_text("old")
    (layer / "gone").write_text("gone")
    (layer / "moved").mkdir()
    (layer / "moved/f").write_text("f")
    (layer / "one").write_text("one")
    os.link(layer / "one", layer / "two")
    done = box.sh(_FILL)
    assert (done.status, done.err) == (0, "")
    data = box.layer_bytes(done)
    entries = box.layer(done)
    assert (entries["srv/a/f"].uid, entries["srv/a/f"].gid) == (70, 71)
    assert entries["srv/b/hard"].islnk() or entries["srv/a/f"].islnk()
    assert entries["srv/suid"].mode == 0o4755
    assert (entries["srv/a/soft"].uid, entries["srv/p"].gid) == (5, 9)
    assert ".wh.gone" in entries
    digest = hashlib.sha256(data).hexdigest()
    assert _LAYERS.setdefault("first", digest) == digest


def test_a_read_only_root_refuses_writes(box: RungBox) -> None:
    mounts = (StepMount(type=StepMountType.TMPFS, target="/t"),)
    done = box.sh("echo x > /t/f && echo wrote; echo y > /f", readonly=True, mounts=mounts)
    assert done.out == "wrote\n"
    assert "Read-only file system" in done.err
    assert done.delta() == {}


def test_a_socket_can_be_mounted_and_spoken_to(box: RungBox) -> None:
    """As an agent's is [MNT-20]."""
    place = box.directory / "agent"
    os.mkfifo(place)
    mount = StepMount(
        type=StepMountType.BIND_PATH, source=str(place), target="/run/agent", readonly=True
    )
    done = box.sh("test -p /run/agent && echo there", mounts=(mount,))
    assert done.out == "there\n", done.err


def test_an_unknown_user_ends_nothing_but_the_step(box: RungBox) -> None:
    with pytest.raises(UserError, match="unable to find user nobody"):
        box.run("true", user="nobody")
    assert box.run("true").status == 0


def test_times_are_kept_where_nothing_was_written(box: RungBox) -> None:
    """[SBX-17]"""
    begun = time.time()
    target = box.directory / "src"
    target.mkdir()
    (target / "f").write_text("x")
    mounts = (
        StepMount(
            type=StepMountType.BIND_PATH, source=str(target), target="/etc/deep/d", readonly=True
        ),
    )
    done = box.sh("cat /etc/deep/d/f", mounts=mounts)
    assert done.out == "x"
    assert done.delta() == {}
    assert begun > 0 and Path(done.spec.upper).exists()
