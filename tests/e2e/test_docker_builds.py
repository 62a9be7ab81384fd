"""`docker build` by BuildKit, and a CI job written for docker, with nothing but ``DOCKER_HOST`` pointed here [ENG-39, EP-5, EP-6]."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.daemon.buildsites import daemon
from tests.e2e.networked import NetworkedPybuild, network_namespace
from tests.e2e.test_compose_projects import program
from tests.harness import ROOT, leftovers, make_base, write
from tests.needs import need
from tests.stress.containers import settled

pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow]
JOB = ROOT / "examples/pipeline"
REGISTRY = "127.0.0.1:5000"
USERS = "ci:$2y$05$WWU9igVWRey.qznNKyKLTeVTxzGPirBlWDCIaYjYCI1.beUvcejIi\n"  # ci, tok
DOCKERFILE = """FROM base AS build
COPY page /page
RUN --mount=type=secret,id=word cat /page /run/secrets/word > /out
FROM base
COPY --from=build /out /out
"""


@dataclass(frozen=True)
class Docker:
    """A command line of docker's, and the engine that it speaks to."""

    program: str
    pybuild: NetworkedPybuild
    environment: dict[str, str]

    def __call__(self, *words: str, code: int = 0, stdin: bytes = b"") -> str:
        """Return its output; the output of errors, where it is to fail."""
        done = subprocess.run(
            [self.program, *words],
            env=self.environment,
            input=stdin,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stderr.decode()
        return (done.stderr if code else done.stdout).decode()


def programs() -> list[str]:
    """Return the command lines of docker's that build by BuildKit: old ones do themselves, newer ones with buildx."""
    found: dict[str, None] = {}
    for folder in os.get_exec_path():
        path = Path(folder, "docker")
        if path.is_file():
            found[str(path.resolve())] = None
    return [one for one in found if _builds_by_buildkit(one)]


def _builds_by_buildkit(docker: str) -> bool:
    def said(*words: str) -> str:
        return subprocess.run(
            [docker, *words], capture_output=True, text=True, timeout=60, check=False
        ).stdout

    version = re.search(r"version (\d+)", said("--version"))
    is_old = version is not None and int(version[1]) < 23
    return is_old or said("buildx", "version").startswith("github.com/docker/buildx")


@contextmanager
def site(folder: Path, pid: int, docker: str) -> Generator[Docker]:
    """Give a server with an image *base* and a new store, in the network namespace of *pid*."""
    pybuild = NetworkedPybuild(folder / "store", pid=pid)
    make_base(pybuild, folder / "context", "base")
    (folder / "s").mkdir()
    with daemon(pybuild, folder / "s", "--docker-socket", str(folder / "s/d")):
        environment = {
            "PATH": f"{Path(docker).parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "DOCKER_HOST": f"unix://{folder / 's/d'}",
            "DOCKER_BUILDKIT": "1",
        }
        plugins = Path(os.environ.get("DOCKER_CONFIG", Path.home() / ".docker"), "cli-plugins")
        if plugins.is_dir():
            shutil.copytree(plugins, folder / ".docker/cli-plugins")
        yield Docker(docker, pybuild, environment)
    assert settled(lambda: not leftovers(pybuild.store))


@pytest.fixture(params=range(2))
def docker(tmp_path: Path, request: pytest.FixtureRequest) -> Generator[Docker]:
    need("nsenter", "docker")
    found = programs()
    number: int = request.param
    if number >= len(found):
        pytest.skip("needs docker 20.10, or another with buildx (apt install docker.io)")
    with network_namespace() as pid, site(tmp_path, pid, found[number]) as made:
        yield made


def test_the_first_run_on_a_new_store_is_on_the_default_network(docker: Docker) -> None:
    """No network was ever listed or made there [NET-1]."""
    assert docker("run", "--rm", "base", "echo", "hi") == "hi\n"


def test_an_image_of_a_directory_an_archive_and_a_dockerfile(
    docker: Docker, tmp_path: Path
) -> None:
    """With a secret of the session; its id is what -q prints, as a file or as an image."""
    context = write(tmp_path / "c", Dockerfile=DOCKERFILE, page="page\n", word="secret\n")
    secret = ("--secret", f"id=word,src={context / 'word'}")
    image = docker("build", "-q", *secret, "-t", "app:1", str(context)).strip()
    none = ("run", "--rm", "--network", "none")
    assert docker(*none, image, "cat", "/out") == "page\nsecret\n"
    assert docker(*none, "app:1", "cat", "/out") == "page\nsecret\n"
    out = tmp_path / "out"
    docker("build", *secret, "-o", str(out), str(context))
    assert (out / "out").read_text() == "page\nsecret\n"
    archive = subprocess.run(
        ["tar", "-c", "-C", str(context), "."], capture_output=True, timeout=60, check=True
    ).stdout
    docker("build", *secret, "-t", "app:2", "-", stdin=archive)
    assert docker(*none, "app:2", "cat", "/out") == "page\nsecret\n"
    docker("build", "-t", "app:3", "-", stdin=b"FROM base\nRUN echo 3 > /out\n")
    assert docker(*none, "app:3", "cat", "/out") == "3\n"
    assert docker.pybuild("run", "app:2", "cat", "/out").out == "page\nsecret\n"


def test_a_build_that_fails_says_why(docker: Docker, tmp_path: Path) -> None:
    failed = docker("build", "-", stdin=b"FROM base\nRUN echo so; exit 3\n", code=1)
    assert "exit code: 3" in failed and " so\n" in failed
    empty = write(tmp_path / "c", page="")
    assert "Dockerfile" in docker("build", str(empty), code=1)


@contextmanager
def registry(folder: Path, pid: int) -> Generator[None]:
    """Serve a registry for one user in the namespace of *pid*."""
    write(folder, users=USERS)
    words = [sys.executable, "-m", "pybuild", "registry", "serve", "--root", str(folder / "r")]
    inside = ["nsenter", "-t", str(pid), "-n", "timeout", "600", *words]
    process = subprocess.Popen(
        [*inside, "--addr", REGISTRY, "--htpasswd", str(folder / "users")],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert "serving" in process.stderr.readline()
        yield
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_a_ci_job_written_for_docker(tmp_path: Path) -> None:
    """Login, build with a cache in the registry, compose test, push, pull; each runner on a new store."""
    compose = program()
    need("nsenter", "docker")
    found = programs()
    if not found:
        pytest.skip("needs docker 20.10, or another with buildx (apt install docker.io)")
    given = {"REGISTRY": REGISTRY, "CI_USER": "ci", "CI_TOKEN": "tok", "COMPOSE": compose}
    with network_namespace() as pid, registry(tmp_path / "registry", pid):
        for number, docker in enumerate(found):
            (tmp_path / str(number)).mkdir()
            with site(tmp_path / str(number), pid, docker) as runner:
                done = subprocess.run(
                    [JOB / "job"],
                    env={**runner.environment, **given, "BASE": "base", "GITHUB_SHA": f"c{number}"},
                    capture_output=True,
                    text=True,
                    timeout=300,
                    check=False,
                )
                assert done.returncode == 0, done.stdout + done.stderr
                assert f"::notice::pushed {REGISTRY}/app:c{number}" in done.stdout
                assert "Login Succeeded" in done.stdout and "\npassed\n" in done.stdout
                assert runner("ps", "-aq") == ""
