"""Steps of a real unprivileged user, in a user namespace with one id or with a range."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tarfile import TarFile, TarInfo

import pytest

import pybuild
from tests.executor.sandbox_helpers import make_base, skip_unless_possible
from tests.harness import remove_store
from tests.needs import need

UID = 65534
JAIL = str(Path(__file__).with_name("jail.py"))
PYTHON = "/usr/bin/python3"
_MAIN = """
import asyncio, json, sys
from pybuild.executor.steps.spec import StepMount, StepMountType, StepSpec
from pybuild.executor.workers.job import job
from pybuild.executor.workers.workers import Workers
from pybuild.image.layer.layertar import layer_job
from pybuild.image.layer.orders import BlobOrder
asked = json.loads(sys.argv[1])
async def main():
    workers = Workers()
    mounts = tuple(
        StepMount(type=StepMountType.BIND_PATH, source=path, target=path, readonly=True)
        for path in asked.pop("binds"))
    said, layer = [], asked.pop("layer")
    print(json.dumps(await workers.isolation()))
    spec = StepSpec(**asked, mounts=mounts, hosts=b"", resolv_conf=b"")
    done = await workers.run_step(spec, lambda _, data: said.append(data))
    order = BlobOrder(layer, "uncompressed")
    await workers.call(job(layer_job, asked["upper"], order, userxattr=True))
    print(json.dumps([done.status, b"".join(said).decode("utf-8", "replace")]))
    await workers.close()
asyncio.run(main())
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """The outcome of a step.

    Attributes:
        entries: of the layer that it left, by path.
    """

    rung: str
    status: int
    out: str
    entries: dict[str, TarInfo]

    def owner(self, path: str) -> tuple[int, int]:
        return self.entries[path].uid, self.entries[path].gid


class PlainUser:
    """Runs steps as a user that has no privileges outside."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.lower = place / "lower"
        self._count = 0

    def run(
        self, script: str, *, sub_ids: bool = False, user: str = "", python: bool = False
    ) -> Ran:
        """Run a script of the shell, or of the host's Python, in a step of its own."""
        self._count += 1
        here = self.place / str(self._count)
        for name in ("upper", "work"):
            (here / name).mkdir(parents=True)
            os.chown(here / name, UID, UID)
        os.chown(here, UID, UID)
        args = ["/bin/sh", "-c", script]
        if python:
            args = ["/bin/sh", "-c", 'ln -s usr/lib usr/lib64 /; exec "$@"', "sh"]
            args += [PYTHON, "-I", "-S", "-c", script]
        asked = {
            "lowers": [str(self.lower)],
            "upper": str(here / "upper"),
            "work": str(here / "work"),
            "args": args,
            "user": user,
            "binds": ["/usr"] if python else [],
            "layer": str(here / "layer.tar"),
        }
        lines = self.python(_MAIN, json.dumps(asked), sub_ids=sub_ids)
        status, out = json.loads(lines[1])
        with TarFile(here / "layer.tar") as tar:
            entries = {member.name: member for member in tar.getmembers()}
        return Ran(json.loads(lines[0]), status, out, entries)

    def python(
        self,
        main: str,
        *args: str,
        sub_ids: bool = False,
        root: bool = False,
        jailed: bool = False,
        setup: str = "",
        inside: tuple[str, ...] = (),
    ) -> list[str]:
        """Run a program as the user, or as root, with our package; return the lines it prints.

        Args:
            jailed: as root in a container (`jail`).
            setup: a script of the shell that is run first, as root, in the same mount namespace.
            inside: a command that runs the program, as the user.
        """
        command, environment = self.command(
            *(main, *args),
            sub_ids=sub_ids,
            root=root,
            jailed=jailed,
            setup=setup,
            inside=inside,
        )
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=180, check=False, env=environment
        )
        if "cannot make a user namespace" in done.stderr:
            pytest.skip("user namespaces are not allowed here")
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def command(
        self,
        main: str,
        *args: str,
        sub_ids: bool = False,
        root: bool = False,
        jailed: bool = False,
        setup: str = "",
        inside: tuple[str, ...] = (),
    ) -> tuple[list[str], dict[str, str]]:
        """Return the command line and the environment of a program, see `python`."""
        (self.place / "subid").write_text(f"{UID}:200000:65536\n" if sub_ids else "")
        binds = "".join(
            f"[ -e /etc/{name} ] && mount --bind {self.place}/subid /etc/{name};"
            for name in ("subuid", "subgid")
        )
        command = ["unshare", "--mount", "/bin/sh", "-ec", binds + setup + 'exec "$@"', "sh"]
        if jailed:
            command += [PYTHON, JAIL]
        elif not root:
            command += ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
        command += [*inside, PYTHON, "-c", main, *args]
        return command, {"PATH": os.environ["PATH"], "PYTHONPATH": self._path(), "HOME": "/"}

    def _path(self) -> str:
        """Our copy, and the packages of this interpreter where the user's is of the same version."""
        same = _version() == sys.version_info[:2]
        return os.pathsep.join(
            [str(self.place), *site.getsitepackages()] if same else [str(self.place)]
        )


def need_packages(user: PlainUser) -> None:
    """Skip unless the user's Python finds what a whole build needs."""
    try:
        user.python("import lark, networkx, diskcache, aiohttp")
    except AssertionError:
        pytest.skip(f"{PYTHON} does not find our dependencies as uid {UID}")


def need_sub_ids() -> None:
    need("newuidmap")
    if not (os.path.exists("/etc/subuid") and os.path.exists("/etc/subgid")):
        pytest.skip("needs /etc/subuid and /etc/subgid to put a range in their place")


@contextmanager
def plain_user() -> Generator[PlainUser, None, None]:
    """Yield one, with a base of busybox and a copy of the package that it may read."""
    skip_unless_possible()
    need("setpriv", "unshare")
    if not os.access(PYTHON, os.X_OK) or _version() < (3, 11):
        pytest.skip(f"needs a Python 3.11 that every user may run, as {PYTHON}")
    # Also in another pid namespace with this /dev/shm there may be a process of our number.
    place = Path(tempfile.mkdtemp(prefix="pybuild-plain-", dir="/dev/shm"))
    try:
        make_base(place / "lower")
        for path in (place / "lower", *(place / "lower").rglob("*")):
            os.chown(path, UID, UID, follow_symlinks=False)
        # Ours may lie where only root can look.
        root = os.path.dirname(os.path.realpath(next(iter(pybuild.__path__))))
        shutil.copytree(
            f"{root}/pybuild", place / "pybuild", ignore=shutil.ignore_patterns("__pycache__")
        )
        place.chmod(0o755)
        yield PlainUser(place)
    finally:
        remove_store(place)


def _version() -> tuple[int, int]:
    script = "import sys; print(*sys.version_info[:2])"
    done = subprocess.run(
        [PYTHON, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    major, minor = done.stdout.split()
    return int(major), int(minor)
