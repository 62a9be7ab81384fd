"""The life of containers beside their start: exec, attach, restarts, health, pauses, adoption [CTR, MON, ENG]."""

from __future__ import annotations

import json
import marshal
import os
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from pybuild.containers.order import SPAWNER_LOCK
from pybuild.executor.zygote.procstatus import pidfds_tell_codes
from tests.e2e.people import Person
from tests.e2e.test_containers import log, monitors, run, wait_until
from tests.harness import Pybuild
from tests.needs import needs

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]
_WAITS = "while :; do sleep 0.05; done"


def shown(machine: Pybuild, form: str) -> str:
    return machine("ps", "-a", "--format", form).out


def state(machine: Pybuild) -> dict[str, object]:
    (path,) = (machine.store / "containers").glob("*/state.json")
    known: dict[str, object] = json.loads(path.read_text())
    return known


def test_an_order_of_another_version_ends_nothing(machine: Pybuild) -> None:
    """The spawner and the monitor refuse what they do not understand, and go on [MON-6]."""
    run(machine, f"trap 'exit 7' TERM; echo up; {_WAITS}", "--name", "one")
    wait_until(lambda: "up" in machine("logs", "one").out)
    folder = os.open(machine.store / "containers", os.O_PATH)
    try:
        for order in (("run", (..., "pybuild.containers.order:ContainerOrder", 1), None), ("run",)):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as spawner:
                spawner.settimeout(60)
                spawner.connect(f"/proc/self/fd/{folder}/spawner")
                socket.send_fds(spawner, [marshal.dumps(order)], [folder])
                assert "another version" in str(marshal.loads(spawner.recv(1 << 16)))
        id = machine("ps", "-q", "--no-trunc").out.strip()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as monitor:
            monitor.settimeout(60)
            monitor.connect(f"/proc/self/fd/{folder}/{id}/monitor")
            monitor.send(marshal.dumps(("exec", (..., "pybuild.containers.order:ExecOrder", 1))))
            assert "another version" in str(marshal.loads(monitor.recv(1 << 16)))
        # It may be about to fall asleep, which is another process.
        wait_until(lambda: len(monitors(machine.store)) == 1)
        assert machine("ps", "-q", "--no-trunc").out.strip() == id
    finally:
        os.close(folder)
    machine("stop", "one")
    assert machine("wait", "one").out == "7\n"


def test_more_is_executed_in_one_that_runs(machine: Pybuild) -> None:
    """Its streams, status, user, directory and environment are as docker has them [CTR-50, CTR-51]."""
    script = f"echo up; {_WAITS}"
    run(machine, script, "--name", "one", "-e", "A=1", "-w", "/tmp")
    told = "cat; echo $A $B; echo err >&2; test -d /proc/1 && cat /proc/1/comm; exit 7"
    done = machine(
        "exec", "-i", "-e", "B=2", "-u", "7", "one", "sh", "-c", told, code=7, stdin=b"in\n"
    )
    assert (done.out, done.err) == ("in\n1 2\nsh\n", "err\n")
    assert machine("exec", "-w", "/bin", "-u", "7:8", "one", "sh", "-c", "id; echo $PWD").out == (
        "uid=7 gid=8 groups=8\n/bin\n"
    )
    assert "executable file not found" in machine("exec", "one", "nothing", code=127).err
    assert "permission denied" in machine("exec", "one", "/etc/passwd", code=126).err
    assert "nobody-here" in machine("exec", "-u", "nobody-here", "one", "true", code=126).err
    assert machine("exec", "-d", "one", "touch", "/seen").out == ""
    wait_until(lambda: machine("exec", "one", "test", "-e", "/seen", code=None).code == 0)
    # The others see the one that was there first, and end with it.
    machine("stop", "-t", "0", "one")
    assert "is not running" in machine("exec", "one", "true", code=1).err


def test_a_terminal_can_be_left_and_found_again(machine: Pybuild) -> None:
    """It is a terminal of the container's own, as large as ours [ENG-36, CTR-22]."""
    words = machine.command("run", "-it", "--name", "one", "base", "sh")
    person = Person(words, machine.environment)
    person.expect(b"# ")
    person.type(b"test -t 0 && echo at $((6*7))\n")
    person.expect(b"at 42")
    person.type(b"\x10\x11")
    assert person.status() == 0
    assert shown(machine, "{{.State}}") == "running\n"
    person = Person(machine.command("attach", "one"), machine.environment)
    person.type(b"echo again $((1+1))\n")
    person.expect(b"again 2")
    person.type(b"exit 5\n")
    person.expect(b"exit 5")
    assert person.status() == 5
    assert "again 2" in log(machine, "one")
    error = machine("run", "-it", "base", "sh", code=125).err
    assert "the input device is not a TTY" in error


def test_a_terminal_is_as_large_as_ours_from_the_first_moment_on(machine: Pybuild) -> None:
    """A program looks at its size when it begins; later changes follow [CTR-22]."""
    script = "size() { busybox stty size; }; size; while [ \"$(size)\" = '24 91' ]; do sleep 0.05; done; size"
    words = machine.command("run", "--rm", "-it", "base", "sh", "-c", script)
    person = Person(words, machine.environment, size=(24, 91))
    person.expect(b"24 91")
    person.resize(33, 44)
    person.expect(b"33 44")
    assert person.status() == 0


@needs("nft")
def test_run_in_front_ends_as_its_program_does(machine: Pybuild) -> None:
    """Streams apart, every byte of them, exit codes as docker's, and nothing left [CTR-25, CTR-36]."""
    big = b"x" * 300_000
    script = "cat; echo err >&2; exit 9"
    done = machine(
        "run", "--rm", "--name", "a1", "-i", "base", "sh", "-c", script, stdin=big, code=9
    )
    assert (done.out, done.err) == (big.decode(), "err\n")
    done = machine("run", "--rm", "-a", "stderr", "base", "sh", "-c", script, code=9)
    assert (done.out, done.err) == ("", "err\n")
    error = machine("run", "--rm", "--name", "a1", "base", "nothing", code=127).err
    assert "executable file not found in $PATH" in error
    machine("run", "--rm", "--name", "a1", "base", "/etc/passwd", code=126)
    machine("run", "--rm", "--name", "a1", "--user", "nobody-here", "base", "true", code=125)
    assert shown(machine, "{{.Names}}") == ""
    # In the background it removes itself.
    machine("run", "-d", "--rm", "--name", "a1", "base", "true")
    wait_until(lambda: shown(machine, "{{.Names}}") == "")


def test_one_is_started_again_as_its_policy_says(machine: Pybuild) -> None:
    """Up to so many times; and never after it was stopped [CTR-31, CTR-33]."""
    run(machine, "echo run; exit 3", "--name", "one", "--restart", "on-failure:2")
    wait_until(lambda: shown(machine, "{{.State}}") == "exited\n")
    assert log(machine, "one") == "run\n" * 3
    assert (state(machine)["restarts"], state(machine)["exit_code"]) == (2, 3)
    machine("rm", "one")
    run(machine, "echo run; exit 3", "--name", "two", "--restart", "always")
    wait_until(lambda: log(machine, "two").count("run") > 3)
    machine("stop", "two")
    assert shown(machine, "{{.State}}") == "exited\n"
    assert state(machine)["stopped"] is True


def test_one_that_goes_at_its_end_comes_back_from_a_restart(machine: Pybuild) -> None:
    words = machine.command(
        "run", "--rm", "--name", "one", "base", "sh", "-c", "echo up; sleep 600"
    )
    with subprocess.Popen(words, env=machine.environment, stdout=subprocess.PIPE) as front:
        assert front.stdout is not None
        assert front.stdout.readline() == b"up\n"
        machine("restart", "-t", "0", "one")
        assert front.wait(60) == 137
    assert machine("ps", "--format", "{{.Names}}").out == "one\n"
    machine("kill", "one")
    wait_until(lambda: machine("ps", "-aq").out == "")


def test_an_init_takes_in_what_others_leave(machine: Pybuild) -> None:
    """And hands signals on: it takes them though it has no handler [CTR-18]."""
    done = machine("create", "--init", "--name", "one", "base", "sh", "-c", "x", code=None)
    if done.code:
        assert "install" in done.err
        return
    machine("rm", "one")
    script = f"trap 'exit 4' TERM; echo up; {_WAITS}"
    run(machine, script, "--init", "--name", "one")
    wait_until(lambda: log(machine, "one") == "up\n")
    assert "init" in machine("exec", "one", "cat", "/proc/1/comm").out
    machine("stop", "-t", "60", "one")
    assert machine("wait", "one").out == "4\n"


def test_health_is_looked_after(machine: Pybuild) -> None:
    """Healthy with the first success, unhealthy after so many failures [CTR-37]."""
    run(
        machine,
        f"touch /ok; echo up; {_WAITS}",
        *("--name", "one", "--health-cmd", "cat /ok", "--health-interval", "20ms"),
        *("--health-retries", "2"),
    )
    wait_until(lambda: "(healthy)" in shown(machine, "{{.Status}}"))
    machine("exec", "one", "rm", "/ok")
    wait_until(lambda: "(unhealthy)" in shown(machine, "{{.Status}}"))
    (path,) = (machine.store / "containers").glob("*/health.json")
    known = json.loads(path.read_text())
    assert known["FailingStreak"] >= 2 and len(known["Log"]) <= 5
    assert known["Log"][-1]["ExitCode"] == 1
    assert "No such file" in known["Log"][-1]["Output"]


def test_names_and_limits_change_while_it_runs(machine: Pybuild) -> None:
    """[CTR-61, CTR-65]"""
    id = run(machine, f"echo up; {_WAITS}", "--name", "one")
    run(machine, "true", "--name", "two")
    assert "is already in use" in machine("rename", "one", "two", code=1).err
    machine("rename", "one", "uno")
    machine("update", "--memory", "64m", "--restart", "on-failure", "uno")
    config = json.loads((machine.store / "containers" / id / "config.json").read_text())
    assert (config["name"], config["limits"]["memory_bytes"]) == ("uno", 64 << 20)
    assert config["restart"] == {"name": "on-failure", "most": 0}
    assert "no such container: one" in machine("rename", "one", "three", code=1).err
    assert sorted(os.listdir(machine.store / "containers/names")) == ["two", "uno"]


def test_one_stands_still_and_goes_on(machine: Pybuild) -> None:
    """A pause needs a freezer; without one the refusal names it [CTR-38]."""
    run(machine, f"echo up; {_WAITS}", "--name", "one")
    done = machine("pause", "one", code=None)
    if done.code:
        assert "it has no cgroup with a freezer here" in done.err
        return
    assert "(Paused)" in shown(machine, "{{.Status}}")
    assert "is already paused" in machine("pause", "one", code=1).err
    assert "is paused" in machine("exec", "one", "true", code=1).err
    assert "must be unpaused first" in machine("rm", "one", code=1).err
    machine("unpause", "one")
    assert "is not paused" in machine("unpause", "one", code=1).err
    machine("pause", "one")
    machine("rm", "-f", "one")


def spawners(store: Path) -> list[int]:
    """Return the store's spawner, by its lock: the log is also that of monitors and of helpers for networks."""
    lock = str(store / "containers" / SPAWNER_LOCK)
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes()
            fds = [os.readlink(fd) for fd in (entry / "fd").iterdir()]
            if b"containers.spawner" in words and lock in fds:
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("both", [False, True])
def test_one_whose_monitor_is_killed_lives_on(machine: Pybuild, tmp_path: Path, both: bool) -> None:
    """Another adopts it: no line is lost, nor how it ends, where the spawner or the kernel tells it [MON-6]."""
    flags = tmp_path / "flags"
    flags.mkdir()
    script = (
        "echo up; i=0; while ! test -e /flags/end; do i=$((i+1)); echo line $i; sleep 0.01; done; "
        "echo end; exit 7"
    )
    run(machine, script, "--name", "one", "-v", f"{flags}:/flags")
    wait_until(lambda: "line 5\n" in log(machine, "one"))
    (old,) = monitors(machine.store)
    if both:
        for pid in spawners(machine.store):
            os.kill(pid, signal.SIGKILL)
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: old not in monitors(machine.store))
    assert shown(machine, "{{.State}}") == "running\n"
    wait_until(lambda: bool(monitors(machine.store)))
    seen = log(machine, "one").count("line")
    wait_until(lambda: log(machine, "one").count("line") > seen + 5)
    assert machine("exec", "one", "echo", "here").out == "here\n"
    (flags / "end").touch()
    is_known = pidfds_tell_codes() or not both
    assert machine("wait", "one").out == ("7\n" if is_known else "255\n")
    lines = log(machine, "one").splitlines()
    assert lines[0] == "up" and lines[-1] == "end"
    numbers = [int(line.split()[1]) for line in lines[1:-1]]
    assert numbers == list(range(1, len(numbers) + 1))


def test_one_that_ran_when_the_machine_went_down_has_ended(machine: Pybuild) -> None:
    """Its process number means nothing any more, whoever has it now [MON-7]."""
    id = machine("create", "--name", "one", "base", "true").out.strip()
    path = machine.store / "containers" / id / "state.json"
    path.write_text(
        json.dumps({"status": "running", "pid": os.getpid(), "boot": "another", "started": 1})
    )
    assert shown(machine, "{{.Status}}").startswith("Exited (255)")
    machine("start", "one")
    assert machine("wait", "one").out == "0\n"


def test_the_log_goes_round_and_is_read_whole(machine: Pybuild) -> None:
    """A follower passes from file to file; no driver keeps nothing [CTR-75, CTR-76]."""
    script = "i=0; while test $i -lt 400; do i=$((i+1)); echo line $i; done"
    options = ("--log-opt", "max-size=8k", "--log-opt", "max-file=200", "--name", "one")
    run(machine, script, *options)
    expected = "".join(f"line {number}\n" for number in range(1, 401))
    assert machine("logs", "-f", "one").out == expected
    assert len(list((machine.store / "containers").glob("*/log.json.*"))) > 2
    assert machine("logs", "--since", "1h", "--tail", "1", "one").out == "line 400\n"
    assert machine("logs", "--until", "1h", "one").out == ""
    assert machine("logs", "--tail", "9" * 30, "one").out == expected
    assert "invalid time" in machine("stop", "-t", "inf", "one", code=2).err
    run(machine, "echo x", "--log-driver", "none", "--name", "two")
    assert "does not support reading" in machine("logs", "two", code=1).err


def test_one_is_started_in_front(machine: Pybuild) -> None:
    """``start -ai``: its output from the first byte, its input, its status."""
    machine("create", "-i", "--name", "one", "base", "sh", "-c", "cat; exit 6")
    with subprocess.Popen(
        machine.command("start", "-ai", "one"),
        env=machine.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        out, _ = process.communicate(b"typed\n", timeout=120)
    assert (out, process.returncode) == (b"typed\n", 6)


def test_a_reader_that_stands_still_holds_no_end_up(machine: Pybuild) -> None:
    """Output that it has not taken is there for it afterwards; the container is gone long before."""
    line = "x" * 1000
    script = f"while :; do echo {line}; done"
    with subprocess.Popen(
        machine.command("run", "--name", "one", "base", "sh", "-c", script),
        env=machine.environment,
        stdout=subprocess.PIPE,
    ) as process:
        sizes = [0, 1]

        def is_full() -> bool:
            sizes.append(sum(map(os.path.getsize, machine.store.glob("containers/*/log.json"))))
            return sizes[-1] == sizes[-2] > 1 << 20

        wait_until(is_full)
        machine("rm", "-f", "one")
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 137
    assert len(out) > 1 << 20 and set(out.splitlines()[:-1]) == {line.encode()}


def test_much_input_stops_neither_output_nor_signals(machine: Pybuild) -> None:
    """More output than input, an end before that of the input, and a signal to one that reads nothing."""
    line = "y" * 500 + "\n"
    script = "while read -r x; do echo $x$x$x$x$x$x$x$x; done"
    done = machine(
        "run", "-i", "--name", "a1", "base", "sh", "-c", script, stdin=line.encode() * 2000
    )
    assert len(done.out) == 2000 * 4001
    much = bytes(4 << 20)
    machine("run", "-i", "--name", "b1", "base", "sh", "-c", "exit 3", stdin=much, code=3)
    script = "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done"
    with subprocess.Popen(
        machine.command("run", "-i", "--name", "c1", "base", "sh", "-c", script),
        env=machine.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        os.set_blocking(process.stdin.fileno(), False)
        assert process.stdout.readline() == b"up\n"
        with suppress(BlockingIOError):
            while True:
                os.write(process.stdin.fileno(), bytes(1 << 16))
        process.terminate()
        assert process.wait(120) == 5


def test_several_start_it_at_once_and_one_does(machine: Pybuild) -> None:
    """The others find it running, and nobody takes its state for that of one that could not be started."""
    machine("create", "--rm", "--name", "one", "-v", "/data", "base", "sh", "-c", _WAITS)
    assert len(machine("volume", "ls", "-q").out.split()) == 1
    starts = [
        subprocess.Popen(
            machine.command("start", "one"), env=machine.environment, stdout=subprocess.DEVNULL
        )
        for _ in range(4)
    ]
    assert [one.wait(120) for one in starts] == [0] * 4
    assert shown(machine, "{{.State}}") == "running\n"
    assert len(monitors(machine.store)) == 1
    # What removes itself takes its volumes along [CTR-36].
    machine("kill", "one")
    wait_until(lambda: shown(machine, "{{.Names}}") == "")
    wait_until(lambda: machine("volume", "ls", "-q").out == "")


@needs("nft")
def test_any_user_in_it_can_open_its_streams_by_name(machine: Pybuild) -> None:
    """Servers that write their logs to /dev/stdout run as users of their own."""
    script = "cat /dev/stdin > /dev/stdout; echo err > /dev/stderr"
    words = ("run", "-i", "--user", "7", "--name", "one", "base", "sh", "-c", script)
    done = machine(*words, stdin=b"in\n")
    assert (done.out, done.err) == ("in\n", "err\n")
    run(machine, _WAITS, "--name", "two")
    done = machine("exec", "-i", "-u", "7", "two", "sh", "-c", script, stdin=b"in\n")
    assert (done.out, done.err) == ("in\n", "err\n")
