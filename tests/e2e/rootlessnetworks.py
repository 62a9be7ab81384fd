"""A plain user's pybuild on a machine of its own, whose tun device everybody may open."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.networked import NetworkedPybuild, network_namespace
from tests.e2e.test_containers import wait_until
from tests.executor.plain_user import UID, PlainUser, need_packages, need_sub_ids, plain_user
from tests.harness import leftovers
from tests.needs import need

_MAIN = """
import runpy, sys
sys.argv[0] = "pybuild"
runpy.run_module("pybuild", run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class RootlessPybuild(NetworkedPybuild):
    """Runs pybuild as a user without privileges.

    Attributes:
        setup: a script of root's in the mount namespace of each command.
    """

    user: PlainUser = field(kw_only=True)
    sub_ids: bool = True
    setup: str = ""

    @property
    def environment(self) -> dict[str, str]:
        return {
            **self.user.command(_MAIN, sub_ids=self.sub_ids)[1],
            "HOME": str(self.store.parent),
            "PYBUILD_ROOT": str(self.store),
            "PYBUILD_HOST": "local",
            "PYTHONPYCACHEPREFIX": str(self.store.parent / "compiled"),
            "DOCKER_HOST": "unix:///nonexistent/docker.sock",
        }

    def command(self, *words: str | Path) -> list[str]:
        command, _ = self.user.command(
            _MAIN, *map(str, words), sub_ids=self.sub_ids, setup=self.setup
        )
        return [*self.inside(), *command]

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a command, and do not wait for it."""
        pipe = subprocess.PIPE
        command = self.command(*words)
        return subprocess.Popen(command, env=self.environment, stdout=pipe, stderr=pipe)


@contextmanager
def rootless_machine(
    *, sub_ids: bool = True, tun: bool = True, setup: str = ""
) -> Generator[RootlessPybuild]:
    """Yield one with the image "base" in its store; nothing is left of its containers afterwards."""
    need("nsenter", "ip", "slirp4netns")
    with plain_user() as user, network_namespace() as pid:
        need_packages(user)
        if sub_ids:
            need_sub_ids()
        home = user.place / "home"
        context = home / "context"
        shutil.copytree(user.lower, context / "root", symlinks=True)
        (context / "Dockerfile").write_text("FROM scratch\nCOPY root/ /\n")
        for path in (home, *home.rglob("*")):
            os.chown(path, UID, UID, follow_symlinks=False)
        if tun:
            subprocess.run(
                ["sh", "-ec", f"mknod {user.place}/tun c 10 200; chmod 666 {user.place}/tun"],
                check=True,
                timeout=60,
            )
            setup += f"mount --bind {user.place}/tun /dev/net/tun;"
        made = RootlessPybuild(home / "store", None, pid, user=user, sub_ids=sub_ids, setup=setup)
        made("build", "-q", "-t", "base", context)
        try:
            yield made
        finally:
            ids = made("ps", "-aq", code=None).out.split()
            if ids:
                made("rm", "-f", *ids, code=None)
        wait_until(lambda: not leftovers(made.store))
