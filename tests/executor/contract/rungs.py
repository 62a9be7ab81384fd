"""The rungs of isolation that this machine offers, each with a process of the right user."""

from __future__ import annotations

import itertools
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tarfile import TarFile, TarInfo
from typing import Any

from pybuild.executor.steps.spec import StepExit, StepSpec
from pybuild.executor.workers.launch import default_pythonpath
from pybuild.image.layer import ownership
from pybuild.model import errors
from tests.executor.plain_user import JAIL, UID, PlainUser, need_sub_ids, plain_user
from tests.executor.sandbox_helpers import Outcome, make_base, skip_unless_possible, step_spec
from tests.needs import need

_FIRST_SUB_ID = 200000
AGENT = Path(__file__).with_name("agent.py")


@dataclass(frozen=True, slots=True)
class Rung:
    """One way to run steps.

    Attributes:
        isolation: what the engine calls it.
        options: of `Workers`.
        uid: whose files it can write to.
        sub_ids: the user is granted a range.
        needs: a program.
    """

    name: str
    isolation: str
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    uid: int = 0
    sub_ids: bool = False
    needs: str = ""

    @property
    def runtime(self) -> str:
        """The OCI runtime, if one runs the steps."""
        return str(self.options.get("runtime", ""))

    @property
    def is_jailed(self) -> bool:
        """Whether it runs as root in a container that may neither mount nor make namespaces."""
        return self.isolation == "chroot"

    @property
    def records(self) -> bool:
        """Whether owners are noted beside the files."""
        return self.isolation == "userns-single"

    @property
    def overlay(self) -> str:
        """How the names of overlay's own attributes begin."""
        return "trusted.overlay." if self.isolation == "root" else "user.overlay."


RUNGS = (
    Rung("root", "root"),
    Rung("userns", "userns", uid=UID, sub_ids=True, needs="newuidmap"),
    Rung("userns-single", "userns-single", uid=UID),
    Rung("chroot", "chroot"),
    Rung("crun", "root", {"runtime": "crun"}, needs="crun"),
    Rung("crun-userns", "userns", {"runtime": "crun"}, uid=UID, sub_ids=True, needs="crun"),
    Rung("runc", "root", {"runtime": "runc"}, needs="runc"),
    Rung("runc-userns", "userns", {"runtime": "runc"}, uid=UID, sub_ids=True, needs="runc"),
)


class Agent:
    """A process that runs steps on one rung."""

    def __init__(self, rung: Rung, place: Path, process: subprocess.Popen[bytes]) -> None:
        self.rung = rung
        self.place = place
        self.process = process

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        pickle.dump({"do": do, **request}, self.process.stdin)
        self.process.stdin.flush()
        try:
            answer: dict[str, Any] = pickle.load(self.process.stdout)
        except EOFError:
            raise AssertionError(f"the agent of {self.rung.name} is gone") from None
        return answer


@contextmanager
def place_for(rung: Rung) -> Generator[PlainUser]:
    """Yield a place that the rung's user can read, with a base that belongs to it.

    Raises:
        pytest.skip.Exception: this machine does not offer the rung.
    """
    skip_unless_possible()
    if rung.needs:
        need(rung.needs)
    if rung.sub_ids:
        need_sub_ids()
    with plain_user() as user:
        if rung.uid == 0:
            shutil.rmtree(user.lower)
            make_base(user.lower)
        yield user


def command_on(
    rung: Rung, user: PlainUser, main: str, *args: str
) -> tuple[list[str], dict[str, str]]:
    """Return the command line and the environment of a program of the rung's user."""
    if rung.uid:
        return user.command(main, *args, sub_ids=rung.sub_ids)
    path = os.pathsep.join(default_pythonpath())
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "HOME": "/"}
    jail = [sys.executable, JAIL] if rung.is_jailed else []
    return [*jail, sys.executable, "-c", main, *args], environment


@contextmanager
def agent_on(rung: Rung) -> Generator[Agent]:
    """Start the agent of a rung."""
    with place_for(rung) as user:
        main = AGENT.read_text(encoding="utf-8")
        command, environment = command_on(rung, user, main, repr(rung.options))
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        ) as process:
            agent = Agent(rung, user.place, process)
            try:
                told = agent.ask("about")
                assert told["rung"] == rung.isolation, told
                yield agent
            finally:
                assert process.stdin is not None
                process.stdin.close()
                process.wait(60)


class RungBox:
    """Runs steps of one test on a stack of deltas and keeps what they leave."""

    def __init__(self, agent: Agent, directory: Path) -> None:
        self.agent = agent
        self.rung = agent.rung
        self.directory = directory
        self.lowers: tuple[Path, ...] = (agent.place / "lower",)
        self._count = itertools.count()
        self._owned: set[Path] = set()

    def lower(self, name: str = "layer") -> Path:
        """Make a directory to be filled with one more delta on top."""
        path = self.directory / name
        path.mkdir()
        self.lowers = (*self.lowers, path)
        return path

    def chown(self, path: Path, uid: int, gid: int) -> None:
        """Make *path* belong to others, as the rung has it."""
        if self.rung.sub_ids:
            os.chown(path, _FIRST_SUB_ID + uid - 1, _FIRST_SUB_ID + gid - 1)
            return
        if self.rung.records:
            os.chown(path, UID, UID)
            ownership.write_owner(str(path), uid, gid)
            return
        os.chown(path, uid, gid)

    def spec(self, *args: str, **changes: Any) -> StepSpec:
        place = self.directory / f"step{next(self._count)}"
        return step_spec(place, self.lowers, args, changes)

    def run(self, *args: str, **changes: Any) -> Outcome:
        spec = self.spec(*args, **changes)
        answer = self._ask(spec)
        ended: StepExit = answer["ended"]
        return Outcome(spec, ended, answer["said"])

    def sh(self, script: str, **changes: Any) -> Outcome:
        return self.run("/bin/sh", "-c", script, **changes)

    def cancel(self, script: str, *, after: float = 0.0) -> tuple[float, str]:
        """Cancel a script *after* seconds from its first output; return how long its end took, and
        what it wrote."""
        answer = self._ask(self.spec("/bin/sh", "-c", script), cancel=after)
        assert "cancelled" in answer, answer
        return answer["cancelled"], answer["said"]["stdout"].decode()

    def watch(self, spec: StepSpec, **how: Any) -> dict[str, Any]:
        """Run a step and return all that the agent says; see there."""
        return self._ask(spec, **how)

    def layer(self, outcome: Outcome) -> dict[str, TarInfo]:
        """Return the entries of the layer that a step left, by path."""
        path = self.directory / f"layer{next(self._count)}.tar"
        self._own(self.directory)
        self.agent.ask("layer", upper=str(outcome.upper), layer=str(path))
        with TarFile(path) as tar:
            return {member.name: member for member in tar.getmembers()}

    def layer_bytes(self, outcome: Outcome) -> bytes:
        path = self.directory / f"layer{next(self._count)}.tar"
        self._own(self.directory)
        self.agent.ask("layer", upper=str(outcome.upper), layer=str(path))
        return path.read_bytes()

    def _ask(self, spec: StepSpec, **request: Any) -> dict[str, Any]:
        self._own(self.directory)
        answer = self.agent.ask("step", spec=spec, **request)
        if "error" in answer:
            kind, message, hints = answer["error"]
            raise getattr(errors, kind)(message, hints=hints)
        return answer

    def _own(self, directory: Path) -> None:
        """Give what the test has made since the last step (as root) to the rung's user."""
        if not self.rung.uid:
            return
        new = [directory] if not self._owned else []
        for entry in sorted(set(directory.iterdir()) - self._owned):
            new += [entry, *entry.rglob("*")]
            self._owned.add(entry)
        for path in new:
            status = path.lstat()
            if status.st_uid == 0:
                os.chown(path, self.rung.uid, self.rung.uid, follow_symlinks=False)
                if status.st_mode & 0o6000:
                    os.chmod(path, status.st_mode & 0o7777)
