"""The demo without any network (issue 2, Shows 1): a base of the machine's own files, an example on it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.harness import ROOT, leftovers, remove_store
from tests.needs import need

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

_PLAIN = 65534
Run = Callable[..., subprocess.CompletedProcess[str]]


def test_the_current_user_builds_and_runs_the_example(tmp_path: Path) -> None:
    door = front_door(tmp_path, sys.executable, [ROOT])
    store = tmp_path / "store"
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYBUILD_ROOT": str(store)}

    def run(*words: str | Path, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        return execute(list(map(str, words)), {**environment, "PYBUILD": str(door)}, code)

    demo(run, door, ROOT)
    assert leftovers(store) == []


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("sub_ids", [False, True], ids=["one-id", "sub-ids"])
def test_a_plain_user_builds_and_runs_the_example(place: Path, sub_ids: bool) -> None:
    """Our tree and our libraries are bound to where that user can read them."""
    need("setpriv", "unshare", *(["newuidmap"] if sub_ids else []))
    if sub_ids and not (os.path.exists("/etc/subuid") and os.path.exists("/etc/subgid")):
        pytest.skip("needs /etc/subuid and /etc/subgid to put a range in their place")
    become = ["setpriv", f"--reuid={_PLAIN}", f"--regid={_PLAIN}", "--clear-groups"]
    tree, libraries, home = place / "tree", place / "libraries", place / "home"
    for directory in (tree, libraries, home):
        directory.mkdir()
    os.chown(home, _PLAIN, _PLAIN)
    door = front_door(place, python_for_all(become), [tree, libraries])
    (place / "subid").write_text(f"{_PLAIN}:200000:65536\n" if sub_ids else "")
    site = Path(pytest.__file__).resolve().parents[1]
    binds = f"mount --bind {ROOT} {tree}; mount --bind {site} {libraries};"
    for name in ("subuid", "subgid"):
        binds += f"[ ! -e /etc/{name} ] || mount --bind {place}/subid /etc/{name};"
    inside = ["unshare", "--mount", "sh", "-ec", binds + 'cd /; exec "$@"', "sh", *become]
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(home), "PYBUILD": str(door)}

    def run(*words: str | Path, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        return execute([*inside, *map(str, words)], environment, code)

    allowed = run("unshare", "--user", "true", code=None)
    if allowed.returncode:
        pytest.skip(f"ordinary users make no user namespaces here: {allowed.stderr.strip()}")
    demo(run, door, tree)
    store = home / ".local/share/pybuild"
    assert (store / "oci-layout").stat().st_uid == _PLAIN
    assert leftovers(store) == []


def demo(run: Run, door: Path, tree: Path) -> None:
    run("bash", tree / "scripts/make-base", "host", "demo:host")
    build = [door, "-t", "greeter", "--build-arg", "BASE=demo:host", tree / "examples/shell"]
    first = run(*build, "--build-arg", "VERSION=dev")
    assert "RUN sed" in first.stderr and "CACHED" not in first.stderr
    assert run(door, "run", "greeter").stdout == "hello from greeter dev\n"
    again = run(*build, "--build-arg", "VERSION=dev").stderr
    steps = [line.partition(" ")[0] for line in again.splitlines() if " [" in line]
    steps = [number for number in steps if f"{number} [internal]" not in again]
    assert len(steps) >= 7
    assert [number for number in steps if f"{number} CACHED" not in again] == []
    # The test stage guards the image: another version is not what the test expects.
    failed = run(*build, "--build-arg", "VERSION=2", code=None)
    assert failed.returncode == 1
    assert run(door, "run", "greeter").stdout == "hello from greeter dev\n"


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user can enter, as pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="pybuild-demo-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        remove_store(path)


def front_door(where: Path, python: str, paths: Sequence[Path]) -> Path:
    """A program `pybuild` that is this source on *python*."""
    door = where / "pybuild"
    path = ":".join(map(str, paths))
    door.write_text(f'#!/bin/sh\nPYTHONPATH={path} exec {python} -P -m pybuild "$@"\n')
    door.chmod(0o755)
    return door


def python_for_all(become: Sequence[str]) -> str:
    """A Python of our version that the other user can run."""
    script = "import sys; print(sys.version_info[:2])"
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        # By a shell: setpriv itself still has root's power over files at its own exec.
        command = [*become, "sh", "-c", 'exec "$@"', "sh", python, "-c", script]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=False, cwd="/"
        )
        if done.stdout.strip() == str(sys.version_info[:2]):
            return python
    pytest.skip(f"no Python {sys.version_info[:2]} that every user may run")


def execute(
    command: Sequence[str], environment: dict[str, str], code: int | None = 0
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert code is None or done.returncode == code, done.stdout + done.stderr
    return done
