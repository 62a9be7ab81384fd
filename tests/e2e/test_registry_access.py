"""Permission to pull and push, and places for plain HTTP, through the whole command line."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import Pybuild, write
from tests.needs import need, needs
from tests.services import RegistryProcess, start_registry

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.slow,
    pytest.mark.registry,
    needs("docker-registry"),
]

USER, PASSWORD = "ann", "s3cr3t-of-ann"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    where = tmp_path_factory.mktemp("guarded")
    with start_registry(where, htpasswd={USER: PASSWORD}) as registry:
        yield registry


def login(directory: Path, host: str, user: str, password: str) -> dict[str, str]:
    """Return the login that ``docker login`` leaves, as the environment that points at it."""
    directory.mkdir()
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    (directory / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    return {"DOCKER_CONFIG": str(directory)}


def nobody(directory: Path) -> dict[str, str]:
    directory.mkdir()
    return {"DOCKER_CONFIG": str(directory)}


def errors(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("error: ")]


def test_credentials_serve_build_push_pull_from_and_run(
    guarded: RegistryProcess, tmp_path: Path
) -> None:
    """REG-5, CFG of docker login: one file for every command."""
    env = login(tmp_path / "login", guarded.host, USER, PASSWORD)
    name = f"{guarded.host}/private/app:1"
    context = write(tmp_path / "ctx", Dockerfile="FROM scratch\nCOPY a /\n", a="a\n")
    Pybuild(tmp_path / "one")("build", "-t", name, "--push", context, env=env)

    puller = Pybuild(tmp_path / "two")
    puller("pull", name, env=env)
    puller("inspect", "--check", name)
    puller("tag", name, f"{guarded.host}/private/app:2")
    puller("push", f"{guarded.host}/private/app:2", env=env)

    user = Pybuild(tmp_path / "three")
    on_top = write(tmp_path / "top", Dockerfile=f"FROM {name}\nCOPY b /\n", b="b\n")
    user("build", "-o", tmp_path / "out", on_top, env=env)
    assert sorted(os.listdir(tmp_path / "out")) == ["a", "b"]
    for file in (tmp_path / "one").rglob("*"):
        if file.is_file() and not file.is_symlink():
            assert PASSWORD.encode() not in file.read_bytes(), file


@pytest.mark.parametrize("who", ["nobody", "wrong password"])
def test_a_refused_login_is_one_clear_error_with_the_way_out(
    guarded: RegistryProcess, tmp_path: Path, who: str
) -> None:
    if who == "nobody":
        env, hint = nobody(tmp_path / "login"), f"hint: log in: pybuild login {guarded.host}\n"
    else:
        env = login(tmp_path / "login", guarded.host, USER, "typo-of-ann")
        hint = f"hint: log in: pybuild login {guarded.host}, again or as somebody else: it does not accept"
    pybuild = Pybuild(tmp_path / "store")
    name = f"{guarded.host}/private/refused:1"
    context = write(tmp_path / "ctx", Dockerfile="FROM scratch\nCOPY a /\n", a="a\n")
    on_top = write(tmp_path / "top", Dockerfile=f"FROM {guarded.host}/private/other:1\n")

    pushed = pybuild("build", "-t", name, "--push", context, env=env, code=3)
    assert "401 UNAUTHORIZED" in errors(pushed.err)[0]
    # It may as well not exist: registries do not tell the two apart.
    pulled = pybuild("pull", name, env=env, code=1)
    based = pybuild("build", on_top, env=env, code=1)
    for done in (pulled, based):
        assert "pull access denied, repository does not exist or may require" in done.err
    for done in (pushed, pulled, based):
        assert len(errors(done.err)) == 1
        assert hint in done.err
        assert "typo-of-ann" not in done.err
    assert pybuild("inspect", "--check", name).code == 0, "what was built is kept"


def test_a_name_nobody_answers_for_is_an_environment_fault(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        host = f"127.0.0.1:{unused.getsockname()[1]}"
        done = Pybuild(tmp_path / "store")("pull", f"{host}/x:1", code=3)
    assert len(errors(done.err)) == 1
    assert host in errors(done.err)[0] and "refused" in errors(done.err)[0].lower()


def test_an_unknown_image_is_the_users_mistake(guarded: RegistryProcess, tmp_path: Path) -> None:
    env = login(tmp_path / "login", guarded.host, USER, PASSWORD)
    context = write(tmp_path / "ctx", Dockerfile=f"FROM {guarded.host}/private/none:1\n")
    done = Pybuild(tmp_path / "store")("build", context, env=env, code=1)
    assert f"{guarded.host}/private/none:1" in errors(done.err)[0]
    assert "neither the store nor" in errors(done.err)[0]
    assert ">>> FROM" in done.err


def test_plain_http_is_spoken_only_where_it_is_configured(tmp_path: Path) -> None:
    """REG-9. The name resolves in a mount namespace of the test alone."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    need("unshare")
    context = write(tmp_path / "ctx", Dockerfile="FROM scratch\nCOPY a /\n", a="a\n")
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost registry.test\n")
    config = tmp_path / "pybuild.toml"
    with start_registry(tmp_path) as registry:
        port = registry.host.rpartition(":")[2]
        name = f"registry.test:{port}/x/app:1"

        def build(table: str) -> subprocess.CompletedProcess[str]:
            config.write_text(table)
            pybuild = Pybuild(tmp_path / "store", config)
            script = f'mount --bind {hosts} /etc/hosts && exec "$@"'
            words = pybuild.command("build", "-t", name, "--push", context)
            return subprocess.run(
                ["unshare", "--mount", "sh", "-c", script, "sh", *words],
                env=pybuild.environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )

        refused = build("")
        assert refused.returncode == 3, refused.stderr
        assert len(errors(refused.stderr)) == 1
        assert "registry.test" in errors(refused.stderr)[0]
        assert "http = true" in refused.stderr, refused.stderr
        assert not list(registry.root.rglob("_manifests"))

        allowed = build(f'[registry."registry.test:{port}"]\nhttp = true\n')
        assert allowed.returncode == 0, allowed.stderr
        assert list(registry.root.rglob("_manifests"))
