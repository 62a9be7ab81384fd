"""Each flag of run that is about no limit, network, volume or privilege: what it does, shows, and leaves [CTR]."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Generator
from typing import Any

import pytest

from pybuild.containers.steps import find_init
from pybuild.engine.host import native_platform
from tests.e2e.rootlessnetworks import rootless_machine
from tests.e2e.test_containers import wait_until
from tests.harness import Pybuild

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]
_RUN = ("run", "--network", "none")


@pytest.fixture(params=["whoever tests", pytest.param("plain user", marks=pytest.mark.root)])
def someone(request: pytest.FixtureRequest) -> Generator[Pybuild]:
    """Pybuild as the user of the tests, and as one without privileges."""
    if request.param == "whoever tests":
        yield request.getfixturevalue("machine")
        return
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    with rootless_machine() as made:
        yield made


def said(machine: Pybuild, script: str, *options: str) -> list[str]:
    return machine(*_RUN, "--rm", *options, "base", "sh", "-c", script).out.splitlines()


def shown(machine: Pybuild, name: str) -> dict[str, Any]:
    (document,) = json.loads(machine("inspect", name).out)
    return dict(document)


def health(machine: Pybuild, name: str) -> dict[str, Any]:
    return dict(shown(machine, name)["State"]["Health"])


def test_health_has_its_time_to_start(someone: Pybuild) -> None:
    """CTR-37: no failure counts until the time is up, and the looks are as close together as was said."""
    times = ("--health-start-period", "1h", "--health-start-interval", "50ms")
    more = ("--health-interval", "1h", "--health-retries", "1", "--health-cmd", "test -e /well")
    someone(*_RUN, "-d", "--name", "one", *times, *more, "base", "sleep", "600")
    wait_until(lambda: len(health(someone, "one")["Log"]) > 1)
    known = health(someone, "one")
    assert (known["Status"], known["FailingStreak"]) == ("starting", 0)
    check = shown(someone, "one")["Config"]["Healthcheck"]
    assert (check["StartPeriod"], check["StartInterval"]) == (3600 * 10**9, 50 * 10**6)
    someone("exec", "one", "touch", "/well")
    wait_until(lambda: health(someone, "one")["Status"] == "healthy")
    someone("restart", "-t", "0", "one")
    wait_until(lambda: health(someone, "one")["Status"] == "healthy")
    hurried = ("--health-start-period", "0s", "--health-interval", "50ms", "--health-retries", "1")
    command = ("--health-cmd", "false")
    someone(*_RUN, "-d", "--name", "two", *hurried, *command, "base", "sleep", "600")
    wait_until(lambda: health(someone, "two")["Status"] == "unhealthy")
    for option in ("--health-start-period", "--health-start-interval"):
        for value, words in (("x", 'invalid duration "x"'), ("100us", "cannot be less than 1ms")):
            assert words in someone(*_RUN, option, value, "base", "true", code=None).err


def test_an_init_reaps_and_hands_signals_on(someone: Pybuild) -> None:
    if find_init() is None:
        pytest.skip("no init program, such as tini")
    orphan = 'sh -c "sleep 0.05 & echo \\$!" > /pid; read pid < /pid'
    reaped = f"{orphan}; while test -d /proc/$pid; do sleep 0.02; done; cat /proc/1/comm"
    assert "init" in said(someone, reaped, "--init")[0]
    assert said(someone, "cat /proc/1/comm", "--init=false") == ["cat"]
    someone(*_RUN, "-d", "--init", "--name", "one", "base", "sleep", "600")
    known = shown(someone, "one")
    assert (known["HostConfig"]["Init"], known["Path"], known["Args"]) == (True, "sleep", ["600"])
    someone("stop", "one")  # a first process that asks for no signal would be killed after a while
    assert someone("wait", "one").out == f"{128 + signal.SIGTERM}\n"


def test_standard_input_is_kept_open(someone: Pybuild) -> None:
    done = someone(*_RUN, "--rm", "-i", "base", "cat", stdin=b"typed\n")
    assert done.out == "typed\n"
    assert someone(*_RUN, "--rm", "base", "cat", stdin=b"typed\n").out == ""
    someone(*_RUN, "-d", "-i", "--name", "one", "base", "sh", "-c", "read line; echo $line")
    config = shown(someone, "one")["Config"]
    assert (config["OpenStdin"], config["StdinOnce"], config["AttachStdin"]) == (True, False, False)
    assert someone("attach", "one", stdin=b"later\n").out == "later\n"
    someone(*_RUN, "-i", "--name", "two", "base", "true")
    config = shown(someone, "two")["Config"]
    assert (config["OpenStdin"], config["StdinOnce"], config["AttachStdin"]) == (True, True, True)


def test_a_terminal_is_its_own(someone: Pybuild) -> None:
    script = "test -t 0 && test -t 1 && test -t 2 && readlink /proc/self/fd/1; echo $TERM; exit 3"
    words = ("base", "sh", "-c", script.replace("readlink", "busybox readlink"))
    done = someone(*_RUN, "-t", "--name", "one", *words, code=3)
    assert done.out == "/dev/pts/0\r\nxterm\r\n"
    assert shown(someone, "one")["Config"]["Tty"] is True
    assert someone("start", "-a", "one", code=3).out == done.out
    assert someone(*_RUN, "--rm", "-t", "-e", "TERM=vt", *words, code=3).out.endswith("vt\r\n")
    id = someone(*_RUN, "-dt", *words).out.strip()
    assert someone("wait", id).out == "3\n"
    assert someone("logs", id).out == done.out
    assert said(someone, "test -t 1 || echo none") == ["none"]


def test_labels_of_files_are_behind_those_of_flags(someone: Pybuild) -> None:
    files = someone.store.parent / "labels", someone.store.parent / "more"
    for file, text in zip(files, ("# of mine\n\na=1\nb=2\n  c=\n", "b=3\n"), strict=True):
        file.write_text(text)
    given = [word for file in files for word in ("--label-file", str(file))]
    someone(*_RUN, *given, "--label", "a=9", "--name", "one", "base", "true")
    assert shown(someone, "one")["Config"]["Labels"] == {"a": "9", "b": "3", "c": ""}
    assert someone("ps", "-aq", "--filter", "label=b=3").out != ""
    files[0].write_text("two words=1\n")
    error = someone(*_RUN, *given, "base", "true", code=None).err
    assert "labels: variable 'two words' contains whitespaces" in error
    files[0].unlink()
    error = someone(*_RUN, *given, "base", "true", code=None).err
    assert "labels: no such file or directory" in error


def test_an_image_of_another_platform_is_not_taken_for_it(someone: Pybuild) -> None:
    """Here is one image of the name: that of another platform ran, whatever was asked for."""
    native = native_platform()
    assert said(someone, "echo ran", "--platform", str(native), "--quiet") == ["ran"]
    other = "linux/s390x" if native.arch != "s390x" else "linux/amd64"
    for platform in (other, "windows/amd64"):
        for command in ("run", "create"):
            error = someone(command, "--platform", platform, "base", "true", code=None).err
            assert f"does not provide the specified platform ({platform})" in error
    error = someone(*_RUN, "--platform", "here", "base", "true", code=None).err
    assert 'platform "here": unknown operating system or architecture' in error
    error = someone(*_RUN, "--platform", f"{native},{other}", "base", "true", code=None).err
    assert "a container has one platform" in error
    assert someone("ps", "-aq").out == ""


def test_a_read_only_root_has_places_to_write_to(someone: Pybuild) -> None:
    options = ("--read-only", "--tmpfs", "/tmp", "-v", "/data", "-v", "kept:/kept")
    tries = "for d in / /etc /bin /tmp /data /kept /dev /dev/shm; do"
    tries += ' if touch "$d/x" 2>/dev/null; then echo $d; fi; done'
    free = ["/tmp", "/data", "/kept", "/dev", "/dev/shm"]
    begun = f"{tries}; exec sleep 600"
    someone(*_RUN, "-d", "--name", "one", *options, "base", "sh", "-c", begun)
    wait_until(lambda: someone("logs", "one").out.splitlines() == free)
    assert shown(someone, "one")["HostConfig"]["ReadonlyRootfs"] is True
    assert someone("exec", "one", "sh", "-c", tries).out.splitlines() == free
    file = someone.store.parent / "file"
    file.write_text("text")
    assert "is marked read-only" in someone("cp", str(file), "one:/bin/f", code=1).err
    someone("cp", str(file), "one:/data/f")
    assert someone("exec", "one", "cat", "/data/f").out == "text"
    someone("restart", "-t", "0", "one")
    wait_until(lambda: someone("logs", "one").out.splitlines() == free * 2)
    assert someone("diff", "one").out == ""


def test_what_is_to_go_goes_with_its_volumes_and_its_log(someone: Pybuild) -> None:
    options = ("--rm", "-v", "/data", "-v", "kept:/kept")
    assert someone(*_RUN, *options, "base", "sh", "-c", "exit 7", code=7).out == ""
    id = someone(*_RUN, "-d", *options, "base", "sleep", "600").out.strip()
    assert shown(someone, id)["HostConfig"]["AutoRemove"] is True
    assert len(someone("volume", "ls", "-q").out.split()) == 2
    someone("kill", id)
    wait_until(lambda: someone("ps", "-aq").out == "")
    wait_until(lambda: someone("volume", "ls", "-q").out == "kept\n")
    assert "no such container" in someone("logs", id, code=1).err
    error = someone(*_RUN, "--rm", "--restart", "always", "base", "true", code=None).err
    assert "cannot specify both --restart and --rm" in error
    someone("create", "--network", "none", "--rm", "--name", "later", "base", "true")
    assert someone("ps", "-aq").out != ""
    someone("start", "-a", "later")
    wait_until(lambda: someone("ps", "-aq").out == "")


def test_signals_are_handed_on_unless_they_are_not_to_be(someone: Pybuild) -> None:
    script = "trap 'echo got; exit 5' USR1 TERM; echo up; while :; do sleep 0.05; done"

    def begin(name: str, *options: str) -> subprocess.Popen[bytes]:
        words = (*_RUN, "--name", name, *options, "base", "sh", "-c", script)
        process = subprocess.Popen(
            someone.command(*words), env=someone.environment, stdout=subprocess.PIPE
        )
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        return process

    with begin("one") as process:
        process.send_signal(signal.SIGUSR1)
        assert process.communicate(timeout=60)[0] == b"got\n"
        assert process.returncode == 5
    with begin("two", "--sig-proxy=false") as process:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert shown(someone, "two")["State"]["Running"] is True
    someone("stop", "two")
    assert someone("wait", "two").out == "5\n"


def test_the_working_directory_is_made(someone: Pybuild) -> None:
    see = "echo $PWD; stat -c '%u:%g %a' .; touch x 2>/dev/null && echo free || true"
    assert said(someone, see, "-w", "/a/b/../c") == ["/a/c", "0:0 755", "free"]
    assert said(someone, see, "-w", "/a", "-u", "1000") == ["/a", "0:0 755"]
    assert said(someone, see, "-w", "/v/in", "-v", "/v")[0] == "/v/in"
    assert said(someone, see, "-w", "/tmp/y", "--read-only", "--tmpfs", "/tmp")[0] == "/tmp/y"
    assert said(someone, see, "--workdir", "") == ["/", "0:0 755", "free"]
    someone(*_RUN, "-d", "-w", "/a//b/", "--name", "one", "base", "sleep", "600")
    assert shown(someone, "one")["Config"]["WorkingDir"] == "/a/b"
    assert someone("exec", "one", "sh", "-c", "echo $PWD").out == "/a/b\n"
    for path, words in (
        ("rel", "the working directory 'rel' is invalid, it needs to be an absolute path"),
        ("/bin/sh", 'working directory "/bin/sh": not a directory'),
    ):
        assert words in someone(*_RUN, "--rm", "-w", path, "base", "true", code=None).err
