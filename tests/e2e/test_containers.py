"""Containers in the background, as commands see them: they run, are told of, end and go [CTR, MON]."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.executor.plain_user import UID, need_packages, need_sub_ids, plain_user
from tests.harness import Pybuild, leftovers, write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


@pytest.fixture
def machine(pybuild: Pybuild, base: str) -> Generator[Pybuild]:
    """A store with the image *base*, in which nothing runs afterwards."""
    assert base
    yield pybuild
    ids = pybuild("ps", "-aq", code=None).out.split()
    if ids:
        pybuild("rm", "-f", *ids)
    wait_until(lambda: not leftovers(pybuild.store))


def wait_until(is_so: object) -> None:
    assert callable(is_so)
    for _ in range(1200):
        if is_so():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to be within a minute")


def run(machine: Pybuild, script: str, *options: str) -> str:
    return machine("run", "-d", *options, "base", "sh", "-c", script).out.strip()


def log(machine: Pybuild, name: str) -> str:
    return machine("logs", name).out


def test_one_runs_is_listed_ends_and_goes(machine: Pybuild) -> None:
    id = run(machine, "echo out; echo err >&2; echo $HOSTNAME; cat; exit 7", "--name", "one")
    assert len(id) == 64
    assert machine("wait", "one").out == "7\n"
    assert log(machine, id[:5]) == f"out\n{id[:12]}\n"
    assert machine("logs", "one").err == "err\n"
    assert machine("ps", "-q").out == ""
    (line,) = machine("ps", "-a", "--format", "{{.ID}} {{.Image}} {{.Names}} {{.State}}").out.split(
        "\n"
    )[:-1]
    assert line == f"{id[:12]} base one exited"
    assert "   Exited (7) " in machine("ps", "-a").out.split("\n")[1]
    assert machine("rm", "one").out == "one\n"
    assert "no such container: one" in machine("rm", "one", code=1).err
    assert [name for name in os.listdir(machine.store / "containers") if len(name) == 64] == []
    assert not list((machine.store / "leases").glob("lasting-*"))


def test_what_it_wrote_is_its_own_and_the_image_is_as_before(machine: Pybuild) -> None:
    run(machine, "echo a > /f; rm /bin/false; ls /bin/false; cat /f", "--name", "one")
    machine("wait", "one")
    run(machine, "ls /bin/false; ls /f", "--name", "two")
    assert (log(machine, "one"), machine("wait", "two").out) == ("a\n", "1\n")
    assert log(machine, "two") == "/bin/false\n"


def test_stop_gives_it_the_time_to_end_by_itself(machine: Pybuild) -> None:
    waits = "echo up; while :; do sleep 0.05; done"
    run(machine, f"trap 'echo bye; exit 5' TERM; {waits}", "--name", "kind")
    run(machine, f"trap 'echo no' TERM; {waits}", "--name", "deaf")
    for name in ("kind", "deaf"):
        wait_until(lambda name=name: log(machine, name) == "up\n")
    assert machine("stop", "kind").out == "kind\n"
    assert machine("stop", "-t", "1", "deaf").out == "deaf\n"
    assert machine("wait", "kind", "deaf").out == "5\n137\n"
    assert (log(machine, "kind"), log(machine, "deaf")) == ("up\nbye\n", "up\nno\n")
    assert machine("stop", "kind").out == "kind\n"  # as docker: it is what was asked for


def test_a_signal_reaches_it(machine: Pybuild) -> None:
    script = "trap 'echo got' USR1; echo up; while :; do sleep 0.05; done"
    run(machine, script, "--name", "one")
    wait_until(lambda: log(machine, "one") == "up\n")
    machine("kill", "-s", "USR1", "one")
    wait_until(lambda: log(machine, "one") == "up\ngot\n")
    machine("kill", "one")
    assert machine("wait", "one").out == "137\n"
    assert "is not running" in machine("kill", "one", code=1).err
    assert "invalid signal: NO" in machine("kill", "-s", "NO", "one", code=2).err


def test_names_are_unique_and_what_runs_is_not_removed_by_mistake(machine: Pybuild) -> None:
    id = run(machine, "sleep 100", "--name", "one")
    error = machine("run", "-d", "--name", "one", "base", "true", code=125).err
    assert f'the container name "one" is already in use by container "{id}"' in error
    assert (
        "Invalid container name (a b)"
        in machine("run", "-d", "--name", "a b", "base", "true", code=125).err
    )
    assert 'container "one" is running' in machine("rm", "one", code=1).err
    assert machine("ps", "-q").out == id[:12] + "\n"
    machine("rm", "-f", "one")
    run(machine, "true", "--name", "one")


def test_what_cannot_be_started_says_why(machine: Pybuild) -> None:
    error = machine(
        "run", "-d", "--name", "one", "--user", "nobody-here", "base", "true", code=None
    )
    assert error.code != 0
    assert "nobody-here" in error.err
    assert machine("ps", "-a", "--format", "{{.Names}} {{.Status}}").out == "one Created\n"


def test_one_is_created_started_again_and_restarted(machine: Pybuild) -> None:
    """Its files and its log are there when it is started again [CTR-9, CTR-35, CTR-76]."""
    script = "echo once >> /f; cat /f; test -e /go || exit 3; while :; do sleep 0.05; done"
    id = machine("create", "--name", "one", "-l", "a=b", "base", "sh", "-c", script).out.strip()
    shown = "{{.ID}} {{.State}} {{.Labels}}"
    assert machine("ps", "-a", "--format", shown).out == f"{id[:12]} created a=b\n"
    assert machine("start", "one").out == "one\n"
    assert machine("wait", "one").out == "3\n"
    machine("start", "one")
    assert machine("wait", "one").out == "3\n"
    assert log(machine, "one") == "once\nonce\nonce\n"
    machine("rm", "one")
    run(machine, "trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done", "--name", "two")
    wait_until(lambda: log(machine, "two") == "up\n")
    assert machine("start", "two").out == "two\n"  # it runs, and goes on
    assert machine("restart", "-t", "30", "two").out == "two\n"
    wait_until(lambda: log(machine, "two") == "up\nup\n")
    assert machine("ps", "--format", "{{.Names}} {{.State}}").out == "two running\n"


def test_the_id_of_one_is_written_to_a_file_of_its_own(machine: Pybuild, tmp_path: Path) -> None:
    path = tmp_path / "id"
    id = machine("create", "--cidfile", path, "base", "true").out.strip()
    assert path.read_text() == id
    error = machine("create", "--cidfile", path, "base", "true", code=2).err
    assert "container ID file found" in error
    assert machine("ps", "-aq", "--no-trunc").out == f"{id}\n"


def test_the_log_is_whole_and_can_be_followed(machine: Pybuild) -> None:
    count = 3000
    script = f"i=0; while test $i -lt {count}; do i=$((i+1)); echo line $i; done; echo ünd"
    run(machine, script, "--name", "one")
    expected = "".join(f"line {number}\n" for number in range(1, count + 1)) + "ünd\n"
    assert machine("logs", "-f", "one").out == expected
    assert machine("logs", "--tail", "2", "one").out == f"line {count}\nünd\n"
    stamped = machine("logs", "-t", "--tail", "1", "one").out
    assert stamped[4] == "-" and stamped[30:32] == " " + stamped[31]
    path = next((machine.store / "containers").glob("*/log.json"))
    assert {json.loads(line)["stream"] for line in path.read_text().splitlines()} <= {
        "stdout",
        "stderr",
    }


def test_long_lines_are_cut_and_come_whole(machine: Pybuild, tmp_path: Path) -> None:
    """At 16 KiB, as docker does, and never within a letter."""
    text = "a" + "ü" * 40_000 + "\nend"
    (tmp_path / "text").mkdir()
    (tmp_path / "text/f").write_text(text)
    run(machine, "cat /text/f", "--name", "one", "-v", f"{tmp_path}/text:/text:ro")
    assert machine("logs", "-f", "one").out == text
    path = next((machine.store / "containers").glob("*/log.json"))
    sizes = [len(json.loads(line)["log"].encode()) for line in path.read_text().splitlines()]
    assert max(sizes) <= 16 << 10
    assert len(sizes) == 6


def test_many_begin_at_once(machine: Pybuild) -> None:
    """One spawner serves them all, whoever starts it."""
    started = [
        subprocess.Popen(
            machine.command(
                "run", "-d", "--name", f"c{number}", "base", "sh", "-c", f"exit {number}"
            ),
            env=machine.environment,
            stdout=subprocess.DEVNULL,
        )
        for number in range(6)
    ]
    assert [process.wait(120) for process in started] == [0] * 6
    names = [f"c{number}" for number in range(6)]
    assert machine("wait", *names).out == "0\n1\n2\n3\n4\n5\n"


def test_prune_leaves_the_layers_of_containers(machine: Pybuild, tmp_path: Path) -> None:
    flags = tmp_path / "flags"
    flags.mkdir()
    script = "while ! test -e /flags/go; do sleep 0.05; done; cat /etc/passwd"
    run(machine, script, "--name", "one", "-v", f"{flags}:/flags")
    refused = machine("rmi", "base", code=1).err  # as docker's [EP-15]
    assert "unable to delete base (cannot be forced) - image is being used by running" in refused
    machine("rmi", "-f", "base")
    machine("prune", "-af")
    (flags / "go").touch()
    assert machine("wait", "one").out == "0\n"
    assert log(machine, "one").startswith("root:")
    machine("rm", "one")
    machine("prune", "-af")
    assert not any(path.name != "tmp" for path in (machine.store / "snapshots").iterdir())


def test_an_image_is_listed_as_long_as_a_container_has_it(machine: Pybuild, tmp_path: Path) -> None:
    context = write(tmp_path, Dockerfile="FROM base\nLABEL version=1\n")
    machine("build", "-t", "mine", context)
    machine("create", "--name", "one", "mine")
    id = machine("inspect", "-f", "{{.Image}}", "one").out.strip()
    write(context, Dockerfile="FROM base\nLABEL version=2\n")
    machine("build", "-t", "mine", context)
    machine("prune", "-f")
    assert machine("inspect", "-f", "{{.Config.Labels.version}}", id).out == "1\n"
    assert id[7:19] in machine("images", "-a").out
    machine("rm", "one")
    machine("prune", "-f")
    assert machine("inspect", id, code=1).err.startswith("error: no such")
    assert id[7:19] not in machine("images", "-a").out


def monitors(store: Path) -> list[int]:
    """Return the processes of the spawner's that have a container's lock of *store* open: it goes from one to the next."""
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fds = [os.readlink(fd) for fd in (entry / "fd").iterdir()]
            is_ours = b"containers.spawner" in (entry / "cmdline").read_bytes()
            if is_ours and any(re.fullmatch(f"{store}/containers/[^/]*/lock", fd) for fd in fds):
                found.append(int(entry.name))
    return found


ROOTLESS = """
import json, os, subprocess, sys
place = sys.argv[1]
env = {**os.environ, "HOME": place, "PYBUILD_ROOT": place + "/store"}
def pybuild(*words):
    command = [sys.executable, "-m", "pybuild", *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout
pybuild("build", "-q", "-t", "base", place + "/context")
script = "id -u; touch /mine; chown 33 /mine; stat -c %u /mine; exit 3"
pybuild("run", "-d", "--name", "one", "base", "sh", "-c", script)
waited, logs = pybuild("wait", "one"), pybuild("logs", "one")
pybuild("rm", "one")
print(json.dumps([waited, logs, os.listdir(place + "/store/containers/names")]))
"""


@pytest.mark.parametrize("sub_ids", [False, True])
def test_a_plain_user_has_containers_too(sub_ids: bool) -> None:
    with plain_user() as user:
        need_packages(user)
        if sub_ids:
            need_sub_ids()
        context = user.place / "home" / "context"
        shutil.copytree(user.lower, context / "root", symlinks=True)
        (context / "Dockerfile").write_text("FROM scratch\nCOPY root/ /\n")
        for path in (user.place / "home", *(user.place / "home").rglob("*")):
            os.chown(path, UID, UID, follow_symlinks=False)
        (line,) = user.python(ROOTLESS, str(user.place / "home"), sub_ids=sub_ids)
        assert json.loads(line) == ["3\n", "0\n33\n", []]
        wait_until(lambda: not leftovers(user.place / "home/store"))
