"""Images go into a Docker engine without the layers that it has [OUT-4]; the engine is a real one."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pybuild.exporter.docker.address import address_of
from pybuild.model.errors import UsageError
from tests.harness import Pybuild, write
from tests.needs import need, needs

needs_engine = [
    pytest.mark.sandbox,
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="a Docker engine needs root"),
    needs("dockerd"),
]


class Engine:
    """A Docker engine of the test's own, without a network."""

    def __init__(self, where: Path) -> None:
        self.url = f"unix://{where}/docker.sock"
        self.env = {"DOCKER_HOST": self.url, "DOCKER_CONFIG": str(where / "config")}
        self._socket = where / "docker.sock"
        self._log = where / "log"
        words = ["dockerd", "--host", self.url, "--pidfile", f"{where}/pid"]
        words += ["--data-root", f"{where}/data", "--exec-root", f"{where}/exec"]
        words += ["--bridge=none", "--iptables=false", "--ip6tables=false"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                ["timeout", "--kill-after=5", "1800", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self) -> None:
        for _ in range(600):
            try:
                self.get("/_ping")
                return
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.1)
        pytest.skip(f"dockerd does not start here: {self._log.read_text()[-300:]}")

    def get(self, path: str) -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(str(self._socket))
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        head, _, body = answer.partition(b"\r\n\r\n")
        if b" 200 " not in head.splitlines()[0]:
            raise LookupError(head)
        return body

    def image(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get(f"/images/{name}/json"))
        return found

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    where = tmp_path_factory.mktemp("docker")
    engine = Engine(where)
    try:
        engine.wait()
        yield engine
    finally:
        engine.stop()
        for line in Path("/proc/self/mounts").read_text().splitlines():
            if str(where) in line:
                subprocess.run(["umount", "-l", line.split()[1]], timeout=60, check=False)


def image_id(pybuild: Pybuild, name: str) -> str:
    return str(json.loads(pybuild("inspect", "--oci", name).out)["manifest"]["config"]["digest"])


class TestEngine:
    """One engine, that knows more with each test."""

    pytestmark = needs_engine

    def test_load_sends_what_the_engine_lacks(
        self, pybuild: Pybuild, base: str, docker: Engine, tmp_path: Path
    ) -> None:
        context = write(tmp_path / "ctx", Dockerfile="FROM base\nCOPY f /f\n", f="1")
        words: list[str | Path] = ["build", "--progress", "plain", "-t", "app:1", context]
        first = pybuild(*words, "--load", env=docker.env).err
        assert "layers are there" not in first
        assert "Loaded image: app:1" in first
        assert docker.image("app:1")["Id"] == image_id(pybuild, "app:1")
        (context / "f").write_text("2")
        second = pybuild(*words, "--load", env=docker.env).err
        assert "1 of 2 layers are there" in second
        assert docker.image("app:1")["Id"] == image_id(pybuild, "app:1")
        third = pybuild(*words, "-t", "host.example/app:2", "--load", env=docker.env).err
        assert "the image is there" in third
        assert set(docker.image("app:1")["RepoTags"]) == {"app:1", "host.example/app:2"}
        (context / "f").write_text("3")
        pybuild("build", "-t", "app:3", context, env=docker.env)
        with pytest.raises(LookupError):  # without --load it is ours alone
            docker.image("app:3")

    def test_an_output_that_is_an_engine(
        self, pybuild: Pybuild, docker: Engine, tmp_path: Path
    ) -> None:
        context = write(tmp_path / "ctx", Dockerfile="FROM scratch\nCOPY f /f\n", f="1")
        pybuild("build", "-t", "only:1", "-o", "type=docker", context, env=docker.env)
        assert docker.image("only:1")["RepoTags"] == ["only:1"]
        assert "no such object" in pybuild("inspect", "only:1", code=1).err
        error = pybuild("build", "-t", "x", "-o", "type=docker", context, code=3).err
        assert "Docker engine at unix:///nonexistent/docker.sock" in error
        pybuild("build", "-t", "x", "--load", context)  # nobody there: the store alone

    def test_docker_runs_what_it_was_given(
        self, pybuild: Pybuild, base: str, docker: Engine, tmp_path: Path
    ) -> None:
        """Owners, the user and the command are those of the image."""
        need("docker")
        text = "FROM base\nRUN echo x > /x && chown 12:34 /x\nUSER 7\n"
        text += 'CMD ["busybox", "sh", "-c", "busybox stat -c %u:%g /x; busybox id -u"]\n'
        context = write(tmp_path / "ctx", Dockerfile=text)
        pybuild("build", "-t", "runs:1", "--load", context, env=docker.env)
        command = ["docker", "run", "--rm", "--network", "none", "runs:1"]
        done = subprocess.run(
            command,
            env={"PATH": os.environ["PATH"], **docker.env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if "OCI runtime" in done.stderr or "cgroup" in done.stderr:
            pytest.skip(f"this machine starts no containers: {done.stderr.strip()[-200:]}")
        assert (done.returncode, done.stdout) == (0, "12:34\n7\n"), done.stderr


def test_the_address_is_the_one_docker_uses(tmp_path: Path) -> None:
    home = tmp_path / ".docker"
    env = {"HOME": str(tmp_path)}
    assert address_of(env).url == "unix:///var/run/docker.sock"
    assert address_of({**env, "DOCKER_HOST": "tcp://h:2375"}).url == "tcp://h:2375"
    secured = {**env, "DOCKER_HOST": "tcp://h:2376", "DOCKER_TLS_VERIFY": "1"}
    assert address_of(secured).certificates == str(home)
    meta = home / "contexts/meta" / hashlib.sha256(b"far").hexdigest() / "meta.json"
    write(meta.parent, **{"meta.json": '{"Endpoints":{"docker":{"Host":"tcp://far:1"}}}'})
    assert address_of(env, "far").url == "tcp://far:1"
    (home / "config.json").write_text('{"currentContext":"far"}')
    assert address_of(env).url == "tcp://far:1"
    assert address_of(env, "default").url == "unix:///var/run/docker.sock"
    with pytest.raises(UsageError, match='docker context "none" not found'):
        address_of(env, "none")
    with pytest.raises(UsageError, match="expected unix:///PATH or tcp://HOST:PORT"):
        address_of({**env, "DOCKER_HOST": "ssh://h"})
