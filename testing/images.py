"""Images for tests: built, looked into, and run in containers that are gone afterwards.

```python
from pybuild.testing.images import build_image

built = build_image("app", build_args={"V": "1"})
assert built["deps"].cached, built["deps"].why
with built.run("serve") as container:
    assert container.exec("cat", "/state").out == "ready\\n"
```
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self, Unpack

from pybuild.api import BuildOptions, build
from pybuild.explain.report import StepReport
from pybuild.explain.text import miss_lines
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError

if TYPE_CHECKING:
    from types import TracebackType

    from pybuild.builds.givencontexts import GivenContext
    from pybuild.builds.result import BuildResult

_LIMIT_S = 600.0


@dataclass(frozen=True, slots=True)
class RunResult:
    """The end of a program: its exit code and what it wrote."""

    code: int
    out: str
    err: str


class CommandFailed(AssertionError):
    """A command did not exit as it was to; its text has what it wrote."""


def _run(root: str, words: Sequence[str], *, code: int | None, stdin: bytes = b"") -> RunResult:
    """Run a command of ours.

    Raises:
        CommandFailed: its exit code is not *code*.
    """
    place = ["--root", root] if root else []
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pybuild", *place, *words],
        input=stdin,
        capture_output=True,
        timeout=_LIMIT_S,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
    )
    out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    if code is not None and done.returncode != code:
        shown = " ".join(words)
        raise CommandFailed(f"{shown}: exit code {done.returncode}, not {code}\n{out}{err}")
    return RunResult(done.returncode, out, err)


class StepChoice:
    """Some steps of a build.

    Attributes:
        steps: name and whether it was cached, in their order.
    """

    def __init__(self, steps: Sequence[tuple[str, bool]], reports: Sequence[StepReport]) -> None:
        self.steps = tuple(steps)
        self._reports = {report.name: report for report in reports}

    @property
    def cached(self) -> bool:
        """Whether none of them ran."""
        return all(cached for _, cached in self.steps)

    @property
    def why(self) -> str:
        """The reason of each step that ran, a line for each."""
        lines: list[str] = []
        for name, cached in self.steps:
            report = self._reports.get(name)
            if not cached:
                miss = None if report is None else report.miss
                reason = "; ".join(miss_lines(miss, name)) if miss is not None else "not known"
                lines.append(f"{name}: {' '.join(reason.split())}")
        return "\n".join(lines)


class ThrowawayContainer:
    """A container that is gone when its block ends, whatever happens in it; *id* is its name, too."""

    def __init__(self, root: str, id: str) -> None:
        self.id = id
        self._root = root

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()

    def exec(self, *words: str, code: int | None = 0, stdin: bytes = b"") -> RunResult:
        """Run a program in it; *code* is the exit code that it has to have, None for any."""
        flags = ["-i"] if stdin else []
        return _run(self._root, ["exec", *flags, self.id, *words], code=code, stdin=stdin)

    def logs(self) -> RunResult:
        """Return all that its program wrote so far."""
        return _run(self._root, ["logs", self.id], code=0)

    def wait(self) -> int:
        """Wait for the end of its program, and return the exit code."""
        return int(_run(self._root, ["wait", self.id], code=0).out)

    def port(self, inside: int | str) -> tuple[str, int]:
        """Return the address of this machine that leads to a published port."""
        line = _run(self._root, ["port", self.id, str(inside)], code=0).out.splitlines()[0]
        host, _, number = line.rpartition(":")
        return host.strip("[]").replace("0.0.0.0", "127.0.0.1"), int(number)

    def copy(self, path: str, target: str | os.PathLike[str]) -> None:
        """Copy a file or directory out of it."""
        _run(self._root, ["cp", f"{self.id}:{path}", os.fspath(target)], code=0)

    def remove(self) -> None:
        """Remove it, if it is there."""
        _run(self._root, ["rm", "-f", "-v", self.id], code=None)


class BuiltImage:
    """An image that was built, with the way to it; *result* is what `pybuild.build` returned."""

    def __init__(self, result: BuildResult, root: str, trees: Sequence[str]) -> None:
        self.result = result
        self._root = root
        self._trees = tuple(trees)

    @property
    def id(self) -> str:
        assert self.result.image_id is not None, "the build made no image"
        return str(self.result.image_id)

    @property
    def steps(self) -> StepChoice:
        """All steps."""
        return self._choice("")

    def __getitem__(self, name: str) -> StepChoice:
        """The steps of a stage, or those whose name has *name*.

        Raises:
            KeyError: there is none.
        """
        choice = self._choice(name)
        if not choice.steps:
            names = "\n".join(step for step, _ in self.result.steps)
            raise KeyError(f"no stage and no step is called {name!r}; there are\n{names}")
        return choice

    def _choice(self, name: str) -> StepChoice:
        steps = [(step, word == "CACHED") for step, word in self.result.steps]
        of_stage = [one for one in steps if one[0].startswith(f"[{name} ")]
        reports = () if self.result.report is None else self.result.report.steps
        return StepChoice(of_stage or [one for one in steps if name in one[0]], reports)

    def run(
        self,
        *words: str,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> ThrowawayContainer:
        """Start a container in the background; *options* are those of ``pybuild run``."""
        given = [*options, *(f"--env={name}={value}" for name, value in (env or {}).items())]
        done = _run(self._root, ["run", "-d", *given, self.id, *words], code=0)
        return ThrowawayContainer(self._root, done.out.strip())

    def output(self, *words: str, code: int | None = 0, options: Sequence[str] = ()) -> RunResult:
        """Run a program in a container of the image to its end."""
        return _run(self._root, ["run", "--rm", *options, self.id, *words], code=code)

    def in_stage(self, stage: str, *words: str, step: int = 0, code: int | None = 0) -> RunResult:
        """Run a program in the tree of a stage, or of what stood behind one of its steps.

        Raises:
            UserError: the context was not a directory.
        """
        if not self._trees:
            raise UserError("a stage can be run of a build whose context is a directory")
        more = ["--from-step", str(step)] if step else []
        where = ["--stage", stage] if stage else []
        return _run(self._root, ["run", "--rm", *where, *more, *self._trees, *words], code=code)

    def read(self, path: str) -> bytes:
        """Return the bytes of a file of the image."""
        return self.output("cat", path).out.encode()


def build_image(context: GivenContext = ".", **options: Unpack[BuildOptions]) -> BuiltImage:
    """Build as `pybuild.build` does, for tests.

    Raises:
        PybuildError: as `pybuild.build`.
    """
    result = build(context, **options)
    trees: list[str] = []
    if isinstance(context, str | os.PathLike) and os.path.isdir(context):
        dockerfile = options.get("dockerfile")
        if isinstance(dockerfile, str | os.PathLike):
            trees += ["--file", os.fspath(dockerfile)]
        arguments = (options.get("build_args") or {}).items()
        trees += [f"--build-arg={name}={value}" for name, value in arguments]
        trees.append(os.fspath(context))
    if not isinstance(options.get("dockerfile"), bytes):
        return BuiltImage(result, os.fspath(options.get("root", "")), trees)
    return BuiltImage(result, os.fspath(options.get("root", "")), ())
