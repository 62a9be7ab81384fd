"""File modes as git stores them: no umask splits one machine from another [issue 6, show 3; KEY-2]."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.checkouts import (
    NOTE,
    SAID,
    UMASKS,
    WAYS,
    build,
    build_as,
    check_out,
    export,
    layers,
    make_origin,
)
from tests.e2e.remotes import Remote, remote, server, there
from tests.executor.plain_user import need_packages, plain_user
from tests.gitservers import need_git
from tests.harness import Pybuild

__all__ = ["remote", "server", "there"]

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_git()
    return make_origin(tmp_path_factory.mktemp("origin"))


def test_one_commit_has_the_same_keys_and_layers_under_every_umask(
    origin: Path, base_store: Path, tmp_path: Path
) -> None:
    """On six machines that share nothing."""
    found = {
        name: build(origin, base_store, tmp_path / name, way, umask)
        for way in WAYS
        for umask in UMASKS
        for name in (f"{way}-{umask}",)
    }
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
