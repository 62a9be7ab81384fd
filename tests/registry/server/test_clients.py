"""Other people's clients against our server; each is skipped where it is not installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import bcrypt
import pytest

from pybuild.cache.store import Store
from pybuild.model.digest import Digest
from tests.needs import need
from tests.registry.conftest import run
from tests.registry.fakes import WallClock
from tests.registry.server.processes import Serving, process
from tests.registry.server.test_process import pushed_image
from tests.registry.servers import Authority

pytestmark = pytest.mark.slow


def tool(name: str) -> str:
    need(name)
    return str(shutil.which(name))


def call(*words: str | Path, **environ: str) -> str:
    """Run a program that must succeed; return what it says."""
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env={**os.environ, **environ},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    root = tmp_path / "store"
    with Store.open(root, WallClock()) as store, process(root) as one:
        run(pushed_image(one.host, store, "base", "1", tar(tmp_path)))
        yield one


def tar(tmp_path: Path) -> bytes:
    """A layer that any client can unpack."""
    (tmp_path / "file").write_bytes(os.urandom(100_000))
    call("tar", "-C", tmp_path, "-cf", tmp_path / "layer.tar", "file")
    return (tmp_path / "layer.tar").read_bytes()


def test_skopeo_copies_in_out_and_across(serving: Serving, tmp_path: Path) -> None:
    skopeo, host = tool("skopeo"), f"docker://{serving.host}"
    copy = (
        skopeo,
        "--insecure-policy",
        "copy",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
    )
    layout = f"oci:{tmp_path}/layout:1"
    call(*copy, f"{host}/base:1", layout)
    call(*copy, layout, f"{host}/in:1")
    call(*copy, "--format=v2s2", layout, f"{host}/in:docker")
    call(*copy, f"{host}/in:1", f"{host}/across:1")
    digests = {
        Digest.of(
            call(skopeo, "inspect", "--raw", "--tls-verify=false", f"{host}/{name}:1").encode()
        )
        for name in ("in", "across")
    }
    assert len(digests) == 1, "not base's: skopeo compresses what it pushes"
    tags = json.loads(call(skopeo, "list-tags", "--tls-verify=false", f"{host}/in"))["Tags"]
    assert tags == ["1", "docker"]
    call(skopeo, "delete", "--tls-verify=false", f"{host}/across:1")


def test_skopeo_logs_in_over_tls(tmp_path: Path) -> None:
    """With Basic and with tokens; the password is asked for by both."""
    skopeo = tool("skopeo")
    authority = Authority.make(tmp_path)
    (tmp_path / "certs").mkdir()
    shutil.copy(authority.ca, tmp_path / "certs" / "ca.crt")
    users = tmp_path / "users"
    users.write_text(f"ann:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n")
    secured = ("--htpasswd", users, "--tlscert", authority.cert, "--tlskey", authority.key)
    root = tmp_path / "store"
    with Store.open(root, WallClock()) as store, process(root) as one:
        run(pushed_image(one.host, store, "base", "1", tar(tmp_path)))
    for mode in ((), ("--tokens",)):
        with process(root, *map(str, secured), *mode) as one:
            where = f"docker://{one.host}/base:1"
            certs = f"--cert-dir={tmp_path}/certs"
            inspected = call(skopeo, "inspect", certs, "--creds=ann:secret", where)
            assert json.loads(inspected)["Digest"].startswith("sha256:")
            copied = f"docker://{one.host}/copied:1"
            both = (f"--src-cert-dir={tmp_path}/certs", f"--dest-cert-dir={tmp_path}/certs")
            call(
                skopeo,
                "--insecure-policy",
                "copy",
                *both,
                "--src-creds=ann:secret",
                "--dest-creds=ann:secret",
                where,
                copied,
            )
            wrong = subprocess.run(
                [skopeo, "inspect", certs, "--creds=ann:guess", where],
                capture_output=True,
                timeout=60,
                check=False,
            )
            assert wrong.returncode != 0


@pytest.mark.root
@pytest.mark.parametrize("name", ["buildah", "podman"])
def test_buildah_and_podman_pull_and_push(serving: Serving, tmp_path: Path, name: str) -> None:
    program = tool(name)
    # Podman takes no path of more than 50 characters there.
    with TemporaryDirectory(prefix="run-") as short:
        storage = (f"--root={tmp_path}/images", f"--runroot={short}", "--storage-driver=vfs")
        base, pushed = f"{serving.host}/base:1", f"{serving.host}/{name}:1"
        call(program, *storage, "pull", "--tls-verify=false", base)
        call(program, *storage, "tag", base, pushed)
        call(program, *storage, "push", "--tls-verify=false", pushed)
        call(program, *storage, "rmi", "--all", "--force")
        call(program, *storage, "pull", "--tls-verify=false", pushed)


def test_crane_validates_what_it_made_and_copied(serving: Serving, tmp_path: Path) -> None:
    crane, made = tool("crane"), f"{serving.host}/made:1"
    call(
        crane, "append", "--oci-empty-base", "--insecure", "-f", tmp_path / "layer.tar", "-t", made
    )
    call(crane, "copy", "--insecure", made, f"{serving.host}/copied:1")
    call(crane, "validate", "--insecure", "--remote", f"{serving.host}/copied:1")
    assert call(crane, "catalog", "--insecure", serving.host).split() == ["base", "copied", "made"]
