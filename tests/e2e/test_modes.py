"""File modes as git stores them: no umask splits one machine from another [issue 6, show 3; KEY-2]."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.remotes import Remote, remote, server, there
from tests.executor.plain_user import UID, PlainUser, need_packages, plain_user
from tests.gitservers import need_git
from tests.harness import Pybuild, write

__all__ = ["remote", "server", "there"]

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

UMASKS = ("0002", "0022", "0077")
NOTE = "git keeps no such bits; with --modes=git they do not count"
SAID = "[internal] context files have the modes that git stores (--modes=keep: their own)"
DOCKERFILE = """\
FROM base
COPY . /all/
ADD tool sub/l /some/
RUN --mount=type=bind,target=/c cp -a /c/tool /c/sub /
"""
MAIN = """
import os, runpy, sys
os.environ["HOME"] = sys.argv[1]
sys.argv[:2] = ["pybuild"]
runpy.run_module("pybuild", run_name="__main__")
"""


def shell(script: str, *args: str | Path) -> None:
    subprocess.run(["/bin/sh", "-ec", script, "sh", *args], check=True, timeout=60)


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a file of each kind that git knows."""
    need_git()
    made = write(tmp_path_factory.mktemp("origin"), Dockerfile=DOCKERFILE, tool="#!/bin/sh\n")
    write(made, **{"sub/deep/f": "f\n", ".dockerignore": ".git\n"})
    (made / "tool").chmod(0o755)
    (made / "sub/l").symlink_to("deep/f")
    git = "git -c init.defaultBranch=main -c user.name=n -c user.email=e@x"
    shell(f'cd "$1"; {git} init -q; {git} add -A; {git} commit -qm one', made)
    return made


def check_out(origin: Path, way: str, umask: str, where: Path) -> Path:
    take = {
        "clone": 'git clone -q "$2" "$3"',
        "tar": 'mkdir "$3"; git -C "$2" archive HEAD | tar -x --no-same-permissions -C "$3"',
    }
    shell(f'umask "$1"; {take[way]}', umask, origin, where)
    return where


def layers(where: Path) -> list[str]:
    def read(digest: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((where / "blobs" / digest.replace(":", "/")).read_text())
        return found

    (entry,) = json.loads((where / "index.json").read_text())["manifests"]
    return [layer["digest"] for layer in read(entry["digest"])["layers"]]


def keys(report: dict[str, Any]) -> list[str]:
    """What the steps are stored under; all of them must have run."""
    found = [step["key"] for step in report["steps"] if "] FROM " not in step["name"]]
    assert all(found)
    return found


def export(where: Path) -> list[str]:
    # Who checks out when is in the times of files, which git does not store either.
    output = f"type=oci,tar=false,dest={where},rewrite-timestamp=true"
    return ["-o", output, "--build-arg=SOURCE_DATE_EPOCH=1000000000"]


def test_one_commit_has_the_same_keys_and_layers_under_every_umask(
    origin: Path, base_store: Path, tmp_path: Path
) -> None:
    """On six machines that share nothing."""
    found: dict[str, object] = {}
    for way in ("clone", "tar"):
        for umask in UMASKS:
            here = tmp_path / f"{way}-{umask}"
            here.mkdir()
            context = check_out(origin, way, umask, here / "context")
            subprocess.run(["cp", "-a", base_store, here / "store"], check=True, timeout=60)
            machine = Pybuild(here / "store")
            words = ["build", "--progress=plain", "--cache", str(here / "cache")]
            done = machine(*words, *export(here / "out"), context)
            assert SAID in done.err
            report = json.loads(machine("explain", "--format=json").out)
            found[here.name] = keys(report), layers(here / "out")
    assert len(found) == 6
    first = next(iter(found.values()))
    assert all(one == first for one in found.values()), found


def test_a_shared_cache_is_found_under_another_umask(
    origin: Path, base_store: Path, tmp_path: Path
) -> None:
    for umask in UMASKS:
        context = check_out(origin, "clone", umask, tmp_path / umask)
        subprocess.run(["cp", "-a", base_store, tmp_path / f"s{umask}"], check=True, timeout=60)
        words: list[str | Path] = [
            "build",
            "-q",
            "--cache",
            tmp_path / "cache",
            "-o",
            "type=cacheonly",
            context,
        ]
        more = [] if umask == UMASKS[0] else ["--fail-on-miss"]
        Pybuild(tmp_path / f"s{umask}")(*words, *more)


@pytest.mark.usefixtures("base")
def test_without_it_the_mode_is_named_and_the_option(
    origin: Path, pybuild: Pybuild, tmp_path: Path
) -> None:
    pybuild("build", "-q", check_out(origin, "clone", "0022", tmp_path / "one"))
    other = check_out(origin, "clone", "0077", tmp_path / "two")
    done = pybuild(
        "build", "-q", "--fail-on-miss", "--cache", tmp_path / "x", "--modes=keep", other, code=1
    )
    assert SAID not in done.err
    assert f'the mode of /.dockerignore was "0644", is "0600" ({NOTE})' in done.err
    pybuild("build", "-q", "--fail-on-miss", "--modes=git", other, code=0)
    assert (
        'invalid modes "svn": one of git, keep'
        in pybuild("build", "--modes=svn", other, code=2).err
    )


def test_two_users_have_the_same_keys_and_layers(origin: Path) -> None:
    with plain_user() as user:
        need_packages(user)
        made = {name: build_as(user, origin, name) for name in ("root", "user")}
    assert made["root"] == made["user"]


def build_as(user: PlainUser, origin: Path, name: str) -> tuple[list[str], list[str]]:
    here = user.place / name
    (here / "home").mkdir(parents=True)
    context = check_out(origin, "clone", "0022" if name == "root" else "0077", here / "context")
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /all/\nADD tool sub/l /some/\n")
    is_root = name == "root"
    if not is_root:
        for path in (here, *here.rglob("*")):
            os.chown(path, UID, UID, follow_symlinks=False)
    # Root's store would be the machine's own.
    start = [MAIN, str(here / "home"), "--root", str(here / "store")]
    words = ["build", "--modes=git", *export(here / "out"), str(context)]
    user.python(*start, *words, root=is_root)
    report = "\n".join(user.python(*start, "explain", "--format=json", root=is_root))
    return keys(json.loads(report)), layers(here / "out")


def test_a_server_is_told_the_same_modes(
    remote: Remote, there: Pybuild, origin: Path, tmp_path: Path
) -> None:
    """Whatever server: it is the client that says what its files look like."""
    for umask in UMASKS:
        context = check_out(origin, "clone", umask, tmp_path / umask)
        out = export(tmp_path / f"out{umask}")
        done = remote("build", "--progress=plain", "--modes=git", *out, context)
        assert SAID in done.err
        assert done.err.count("CACHED") >= (0 if umask == UMASKS[0] else 4)
    assert len({tuple(layers(tmp_path / f"out{umask}")) for umask in UMASKS}) == 1


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """The repository itself is made under a usual one."""
    old = os.umask(0o022)
    yield
    os.umask(old)
