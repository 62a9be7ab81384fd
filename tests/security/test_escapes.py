"""Every known way out of a step is tried on each rung of isolation and fails [SBX, SBX-21]."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.executor import jailed
from tests.executor.plain_user import need_sub_ids
from tests.executor.sandbox_helpers import make_base, skip_unless_possible
from tests.harness import ROOT
from tests.needs import need
from tests.security import escapes, rawcalls
from tests.security.escapes.attempt import CANARY, PYTHON, VICTIM, Escape
from tests.security.escapes.calls import CALLS, PROGRAMS
from tests.security.escapes.table import ESCAPES, left_out

pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow]

_RUNTIMES = ("crun", "runc")
RUNGS = ("root", "container", "userns", "plain user", "plain user with sub-ids", *_RUNTIMES)
_PLAIN = 65534
_RUNNING = "tests.security.escapes.running"
_USERS = {"plain user": False, "plain user with sub-ids": True}

Found = dict[str, Any]

_OWN_DEV = f"""
d=$(mktemp -d)
mount -t tmpfs -o mode=755 dev $d
for node in null:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 666 $d/${{node%:*}} c 1 ${{node#*:}}
done
mknod -m 666 $d/tty c 5 0
mknod -m 666 $d{VICTIM.removeprefix("/dev")} c 1 3
for name in pts shm mqueue net; do
    [ ! -d /dev/$name ] || {{ mkdir $d/$name; mount --rbind /dev/$name $d/$name; }}
done
ln -s pts/ptmx $d/ptmx
ln -s /proc/self/fd $d/fd
for stream in 0:stdin 1:stdout 2:stderr; do ln -s fd/${{stream%:*}} $d/${{stream#*:}}; done
mount --move $d /dev
rmdir $d
"""


@pytest.fixture(scope="module", params=RUNGS)
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Return the outcomes of all attempts on one rung."""
    skip_unless_possible()
    rung: str = request.param
    if rung in _USERS:
        return _as_plain_user(tmp_path_factory.mktemp("plain"), with_sub_ids=_USERS[rung])
    if rung == "container":
        return _in_a_container(tmp_path_factory.mktemp(rung))
    if rung in _RUNTIMES:
        need(rung)
    place = tmp_path_factory.mktemp(rung)
    place.chmod(0o755)
    runtime = rung if rung in _RUNTIMES else ""
    words = ["rootless"] if rung == "userns" else [runtime] if runtime else []
    return _attempt_all(place, [], words) | {"runtime": runtime}


def _in_a_container(place: Path) -> Found:
    found = _attempt_all(place, [sys.executable, jailed.JAIL], [])
    assert found["rung"] == "chroot"
    return found


def _attempt_all(place: Path, before: list[Any], words: list[str]) -> Found:
    base = _make_base(place / "base")
    (place / "own").mkdir()
    command = [*before, sys.executable, "-m", _RUNNING, base, place / "own", *words]
    return _with_own_dev(list(map(str, command)), "", {**os.environ, "PYTHONPATH": str(ROOT)})


def _make_base(base: Path) -> Path:
    make_base(base)
    for name, (bits, calls) in PROGRAMS.items():
        with suppress(pytest.skip.Exception):
            rawcalls.build(base / "bin" / name, calls, bits=bits)
    return base


def _with_own_dev(
    command: list[str], setup: str = "", environment: dict[str, str] | None = None
) -> Found:
    """Run a program that may break its /dev and nobody else's; return what it prints."""
    done = subprocess.run(
        ["unshare", "--mount", "/bin/sh", "-ec", _OWN_DEV + setup + 'exec "$@"', "sh", *command],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment,
    )
    if "cannot make a user namespace" in done.stderr:
        pytest.skip("user namespaces are not allowed here")
    assert done.returncode == 0, done.stderr
    result: Found = json.loads(done.stdout)
    return result


def _as_plain_user(tmp: Path, *, with_sub_ids: bool) -> Found:
    need("setpriv", "unshare")
    if with_sub_ids:
        need_sub_ids()
    new_enough = "import sys; sys.exit(sys.version_info < (3, 11))"
    if subprocess.run([PYTHON, "-c", new_enough], check=False, timeout=60).returncode:
        pytest.skip("needs a Python 3.11 that every user may run, as /usr/bin/python3")
    place = Path("/dev/shm") / f"pybuild-escapes-{os.getpid()}"
    try:
        place.mkdir(mode=0o755)
        _make_base(place / "base")
        (place / "own").mkdir()
        for path in (place / "own", place / "base", *(place / "base").rglob("*")):
            os.chown(path, _PLAIN, _PLAIN)
        uncompiled = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "pybuild", place / "pybuild", ignore=uncompiled)
        copied = place / "tests/security/escapes"
        shutil.copytree(Path(escapes.__file__).parent, copied, ignore=uncompiled)
        for package in (copied.parent, copied.parent.parent):
            (package / "__init__.py").touch()
        (place / "subid").write_text(f"{_PLAIN}:200000:65536\n" if with_sub_ids else "")
        binds = "".join(
            f"[ -e /etc/{name} ] && mount --bind {place}/subid /etc/{name};"
            for name in ("subuid", "subgid")
        )
        command = ["setpriv", f"--reuid={_PLAIN}", f"--regid={_PLAIN}", "--clear-groups", PYTHON]
        command += ["-m", _RUNNING, f"{place}/base", f"{place}/own"]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(place), "HOME": "/"}
        return _with_own_dev(command, binds, environment)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def test_names_are_unique_and_enough() -> None:
    names = [escape.name for escape in ESCAPES] + list(CALLS)
    assert len(names) == len(set(names))
    assert len(names) >= 60


@pytest.mark.parametrize("escape", ESCAPES, ids=lambda escape: escape.name)
def test_a_step_stays_inside(found: Found, escape: Escape) -> None:
    if reason := left_out(found["rung"], escape):
        pytest.skip(reason)
    done = found[escape.name]
    told = done["out"] + done["err"]
    assert CANARY not in told
    assert "ESCAPED" not in told
    assert done["host"] == "unchanged"
    if found.get("runtime"):
        return  # It refuses in its own words.
    assert re.search(escape.shows, told.strip(), re.MULTILINE | re.IGNORECASE), done


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="call numbers of x86_64")
@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_refused(found: Found, name: str) -> None:
    """[SBX-8]"""
    if found.get("runtime"):
        pytest.skip("its library ends the program at a call of x32; see the contract's filter test")
    if found["rung"] == "chroot":
        pytest.skip("the filter is the container's own")
    calls = found["calls"]
    assert calls.get(name) in ("EPERM", "ENOSYS"), calls
