"""``pybuild -H`` for containers, images, networks and volumes: the same words and exit codes as here, on an engine elsewhere."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import subprocess
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.daemon.buildsites import daemon, pybuild_with_base
from tests.e2e.people import Person
from tests.e2e.test_containers import wait_until
from tests.e2e.test_docker_engine import Engine
from tests.harness import Pybuild, leftovers
from tests.needs import needs

pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow]
_ABOUT_TIME = re.compile(r"(Up )?(\d+ (second|minute)s?|Less than a second|About a minute)( ago)?")


@dataclass(frozen=True)
class Site:
    """An engine, and the command lines for it: here in its own store, and by its address."""

    here: Pybuild
    url: str
    folder: Path

    def far(
        self, *words: str, stdin: bytes = b"", url: str = "", **environ: str
    ) -> tuple[int, str, str]:
        done = subprocess.run(
            [*Pybuild(self.folder / "none").command("-H", url or self.url), *words],
            input=stdin,
            env={**self.here.environment, **environ},
            capture_output=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Generator[Site]:
    here = pybuild_with_base(tmp_path_factory.mktemp("engine"))
    folder = tmp_path_factory.mktemp("s")
    with daemon(here, folder, "--docker-socket", str(folder / "docker.sock")) as server:
        yield Site(here, f"unix://{folder}/docker.sock", folder)
        assert server.stop() == 0
    assert not leftovers(here.store)


def _timeless(text: str) -> str:
    return re.sub(" +", " ", _ABOUT_TIME.sub("T", text))


def _both(site: Site, *words: str) -> str:
    """Return the output of both command lines, which must be the same but for the passing of time."""
    here = site.here(*words).out
    code, far, err = site.far(*words)
    assert code == 0, err
    assert _timeless(far) == _timeless(here)
    return far


def test_a_container_is_run_and_looked_at_as_here(site: Site) -> None:
    run = ("run", "--rm", "--network", "none")
    assert site.far(*run, "base:1", "sh", "-c", "echo out; echo err >&2; exit 3") == (
        3,
        "out\n",
        "err\n",
    )
    assert site.far(*run, "-i", "base:1", "cat", stdin=b"typed\n" * 9999) == (
        0,
        "typed\n" * 9999,
        "",
    )
    code, out, err = site.far(
        "run", "-d", "--name", "one", "--network", "none", "-l", "a=b", "base:1", "sleep", "99"
    )
    assert (code, err) == (0, "") and len(out.strip()) == 64
    for words in (
        ("ps",),
        ("ps", "-q", "--no-trunc", "--filter", "label=a=b"),
        (
            "ps",
            "-a",
            "--format",
            '{{.Names}} {{.Image}} {{.State}} {{.Networks}} {{.Mounts}} {{.Label "a"}}',
        ),
        ("inspect", "--format", "{{.Name}} {{.Config.Cmd}}", "one"),
        ("network", "ls"),
        ("volume", "ls"),
    ):
        assert _both(site, *words)
    assert site.far("exec", "-i", "-e", "X=1", "one", "sh", "-c", "cat; echo $X", stdin=b"a") == (
        0,
        "a1\n",
        "",
    )
    assert site.far("exec", "one", "sh", "-c", "exit 5")[0] == 5
    assert site.far("exec", "one", "nope")[0] == 127
    assert site.far("stop", "-t", "0", "one") == (0, "one\n", "")
    assert site.far("start", "one") == (0, "one\n", "")
    assert site.far("rename", "one", "two")[0] == 0
    assert site.far("kill", "two", "nope") == (1, "two\n", "error: No such container: nope\n")
    assert site.far("wait", "two") == (0, "137\n", "")
    assert site.far("rm", "two") == (0, "two\n", "")


@needs("nft")
def test_what_cannot_be_run_has_the_exit_codes_of_here(site: Site) -> None:
    for words in (
        ("run", "--rm", "base:1", "nope"),
        ("run", "--rm", "base:1", "/etc"),
        ("rm", "nope"),
    ):
        code, _, err = site.far(*words)
        assert code == site.here(*words, code=None).code and err.startswith("error: ")
    assert site.far("run", "--pull=never", "nosuch:1")[0] == 125
    code, _, err = site.far("run", "--stage", "x", ".")
    assert code == 125 and "--stage is for containers of this machine" in err
    code, _, err = site.far("registry", "serve")
    assert code == 2 and "not done by build servers" in err


def test_logs_files_and_volumes(site: Site, tmp_path: Path) -> None:
    words = (
        "--network",
        "none",
        "-v",
        "kept:/data",
        "base:1",
        "sh",
        "-c",
        "echo a; echo b >&2; echo c > /data/f",
    )
    assert site.far("run", "--name", "logged", *words) == (0, "a\n", "b\n")
    assert site.far("logs", "logged") == (0, "a\n", "b\n")
    assert site.far("logs", "--tail", "1", "-f", "logged")[0] == 0
    source = tmp_path / "d"
    source.mkdir()
    (source / "x").write_text("x")
    os.symlink("x", source / "link")
    assert site.far("cp", str(source), "logged:/tmp/copied") == (0, "", "")
    assert site.far("cp", "logged:/tmp/copied", str(tmp_path / "back")) == (0, "", "")
    assert (tmp_path / "back/x").read_text() == "x" and os.readlink(tmp_path / "back/link") == "x"
    assert site.far("cp", f"{source}/x", "logged:/tmp/y")[0] == 0
    assert site.far("cp", "logged:/tmp/y", str(tmp_path))[0] == 0
    assert (tmp_path / "y").read_text() == "x"
    code, out, _ = site.far("volume", "inspect", "kept")
    assert code == 0 and json.loads(out)[0]["Name"] == "kept"
    assert site.far("volume", "rm", "kept")[0] == 1
    assert site.far("rm", "logged")[0] == 0 and site.far("volume", "rm", "kept") == (
        0,
        "kept\n",
        "",
    )
    assert site.far("network", "create", "n1")[0] == 0
    assert site.far("network", "rm", "n1") == (0, "n1\n", "")
    assert site.far("tag", "base:1", "other:2")[0] == 0
    assert "other" in _both(site, "images", "--format", "{{.Repository}} {{.Tag}} {{.ID}}")
    assert site.far("rmi", "other:2") == (0, "Untagged: other:2\n", "")


def test_it_comes_by_ssh_and_by_a_context(site: Site, tmp_path: Path) -> None:
    """The program beside the engine is our own ``system dial-stdio``; docker's contexts name the address."""
    bin = tmp_path / "bin"
    bin.mkdir()
    programs = {
        "ssh": 'for last; do :; done; exec sh -c "$last"',
        "pybuild": f'exec {" ".join(site.here.command())} -H {site.url} "$@"',
    }
    for name, text in programs.items():
        (bin / name).write_text(f"#!/bin/sh\n{text}\n")
        (bin / name).chmod(stat.S_IRWXU)
    path = f"{bin}:{os.environ['PATH']}"
    run = ("run", "--rm", "-i", "--network", "none", "base:1", "cat")
    done = site.far(*run, stdin=b"by ssh\n", url="ssh://me@there:22", PATH=path)
    assert done == (0, "by ssh\n", "")
    config = tmp_path / "docker"
    meta = config / "contexts/meta" / hashlib.sha256(b"there").hexdigest()
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(json.dumps({"Endpoints": {"docker": {"Host": site.url}}}))
    (config / "config.json").write_text('{"currentContext": "there"}')
    for url in ("there", "docker"):
        assert site.far("ps", "-q", url=url, DOCKER_CONFIG=str(config), DOCKER_HOST="") == (
            0,
            "",
            "",
        )
    code, _, err = site.far("ps", url="npipe:////./pipe/x")
    assert code == 2 and "named pipes are Windows's" in err


def test_a_signal_and_a_terminal_are_the_containers(site: Site) -> None:
    """A signal goes to the process, whose status is ours; what it has is a terminal if we have one."""
    words = site.here.command("-H", site.url)
    trap = "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done"
    with subprocess.Popen(
        [*words, "run", "--rm", "--network", "none", "base:1", "sh", "-c", trap],
        env=site.here.environment,
        stdout=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None and running.stdout.readline() == b"up\n"
        running.terminate()
        assert running.wait(60) == 7
    shown = f"{' '.join(words)} run --rm -it --network none base:1 sh -c 'test -t 0 && test -t 1 && echo yes'"
    done = subprocess.run(
        ["script", "-qec", shown, "/dev/null"],
        env=site.here.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0 and b"yes\r\n" in done.stdout, done.stdout
    wait_until(lambda: not site.here("ps", "-aq").out)


def test_a_terminal_is_left_by_keys_and_hears_of_sizes(site: Site) -> None:
    """[ENG-36, CTR-22]: ``run -it``, ``exec -it`` and ``attach`` at a terminal of our own."""

    def person(*words: str, size: tuple[int, int] = (24, 80)) -> Person:
        command = Pybuild(site.folder / "none").command("-H", site.url, *words)
        return Person(command, site.here.environment, size)

    traps = "trap 'busybox stty size' WINCH; trap 'exit 9' INT"
    script = f"{traps}; echo ready; while :; do sleep 0.1; done"
    run = ("run", "--rm", "-it", "--name", "seen", "--network", "none", "--detach-keys")
    one = person(*run, "ctrl-a,q", "base:1", "sh", "-c", script)
    one.expect(b"ready")
    one.resize(20, 70)
    one.expect(b"20 70")
    one.type(b"\x10\x11\x01q")  # the first two are input here
    assert one.status() == 0
    assert site.far("ps", "--format", "{{.Names}}") == (0, "seen\n", "")
    one = person("exec", "-it", "seen", "sh")
    one.expect(b"# ")
    one.resize(30, 60)
    one.type(b'while [ "$(busybox stty size)" != "30 60" ]; do sleep 0.1; done\n')
    one.type(b"echo as $((6*7)); exit 4\n")
    one.expect(b"as 42")
    assert one.status() == 4
    one = person("exec", "-it", "--detach-keys", "ctrl-b", "seen", "sh")
    one.expect(b"# ")
    one.type(b"\x02")
    assert one.status() == 0
    one = person("attach", "seen")
    one.expect(b"24 80")  # as large as who is attached now
    one.type(b"\x10\x11")
    assert one.status() == 0
    one = person("attach", "seen", size=(25, 81))
    one.expect(b"25 81")
    one.type(b"\x03")
    assert one.status() == 9
    wait_until(lambda: not site.here("ps", "-aq").out)


@needs("nft")
def test_links_are_made_shown_and_removed(site: Site) -> None:
    """[NET-15]: by ``run --link`` and ``rm --link`` at an engine elsewhere."""
    on = ("--network", "bridge", "base:1", "busybox", "sleep", "1000")
    assert site.far("run", "-d", "--name", "db", *on)[0] == 0
    assert site.far("run", "-d", "--name", "app", "--link", "db:data", *on)[0] == 0
    assert site.far("exec", "app", "busybox", "grep", "-c", "data", "/etc/hosts") == (0, "1\n", "")
    form = ("inspect", "--format", "{{.HostConfig.Links}}", "app")
    assert _both(site, *form) == "[/db:/app/data]\n"
    code, _, err = site.far("rm", "--link", "app/other")
    assert code == 1 and "No such link: /app/other" in err
    assert site.far("rm", "--link", "app/data") == (0, "app/data\n", "")
    assert site.far("exec", "app", "busybox", "grep", "-c", "data", "/etc/hosts")[1] == "0\n"
    assert site.far("rm", "-f", "app", "db") == (0, "app\ndb\n", "")


@needs("dockerd")
def test_the_same_command_line_works_with_dockerd(site: Site, tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    try:
        engine.wait()
        archive = tmp_path / "base.tar"
        site.here("save", "-o", str(archive), "base:1")
        subprocess.run(
            ["docker", "-H", engine.url, "load", "-qi", str(archive)],
            check=True,
            timeout=120,
            capture_output=True,
        )

        def far(*words: str, stdin: bytes = b"") -> tuple[int, str, str]:
            return site.far(*words, stdin=stdin, url=engine.url)

        assert far("images", "--format", "{{.Repository}}:{{.Tag}}") == (0, "base:1\n", "")
        run = ("run", "--rm", "-i", "--network", "none", "base:1", "sh", "-c")
        assert far(*run, "cat; echo e >&2; exit 4", stdin=b"in") == (4, "in", "e\n")
        code, _, err = far("run", "--network", "none", "--name", "xx", "base:1", "nope")
        assert code == 127, err
        assert far("rm", "xx") == (0, "xx\n", "")
        assert (
            far("run", "-d", "--name", "yy", "--network", "none", "base:1", "sleep", "99")[0] == 0
        )
        assert far("exec", "yy", "echo", "hi") == (0, "hi\n", "")
        code, out, _ = far("ps", "--format", "{{.Names}} {{.State}}")
        assert (code, out) == (0, "yy running\n")
        assert far("volume", "create", "vv") == (0, "vv\n", "")
        assert far("rm", "-f", "yy") == (0, "yy\n", "")
    finally:
        engine.stop()
        for line in Path("/proc/self/mounts").read_text().splitlines():
            if str(tmp_path) in line:
                subprocess.run(["umount", "-l", line.split()[1]], timeout=60, check=False)
