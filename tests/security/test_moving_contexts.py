"""Contexts that do not keep still: what is digested, copied and remembered is one and the same.

Each attempt moves files under a build that goes on. The build passes, or says that what it needs is not
there; and when the movement has ended, no build is answered with bytes that are there no more.
"""

from __future__ import annotations

import asyncio
import io
import re
import subprocess
import tarfile
from collections.abc import Generator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import uvloop

import pybuild as library
from pybuild.engine.settings import load_settings
from pybuild.engine.shared import engine_for
from pybuild.model.errors import PybuildError, UserError
from pybuild.model.events import BuildWarning
from tests.harness import BUSYBOX, Pybuild, make_base, write
from tests.security.movements import ALL_AT_ONCE, MOVEMENTS, Movement, moving, tree

pytestmark = pytest.mark.slow

COPY_ALL = "FROM scratch\nCOPY . /c\n"
COPY_EACH = (
    "FROM scratch\nCOPY d /c/d\nCOPY f* /c/\nCOPY --parents d/**/g /p/\nCOPY Dockerfile /x\n"
)
NOT_THERE = re.compile(r": not found|is not in the context|lstat |changes while it is read")
WARNED = re.compile(r'"/[^"]*" changes while it is read: the build has it')
NOTHING_MATCHES = re.compile(r"nothing matches (f\*|d/\*\*/g): ")


class Builder:
    """Builds by the Python API on one store, with one engine for all tests of this file."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._open = AsyncExitStack()
        settings = load_settings(root=str(store))
        self.runner.run(self._open.enter_async_context(engine_for(settings)))

    def close(self) -> None:
        self.runner.run(self._open.aclose())
        self.runner.close()

    def build(
        self, context: Path, out: Path | None = None, contexts: dict[str, str] | None = None
    ) -> list[str]:
        """Build, into *out* if there is one; return the warnings."""
        events: list[object] = []
        outputs = [f"type=local,dest={out}"] if out else []
        build = library.build_async(
            context,
            outputs=outputs,
            build_contexts=contexts,
            root=self.store,
            on_event=events.append,
        )
        self.runner.run(build)
        return [event.message for event in events if isinstance(event, BuildWarning)]

    def is_fair(self, context: Path, movement: Movement) -> None:
        """It passes with one warning at most, or says plainly what is not there."""
        try:
            warnings = self.build(context)
        except PybuildError as error:
            assert movement.may_be_missing and NOT_THERE.search(error.message), error
        else:
            # A pattern is looked for once, at a moment when there may be nothing that it matches.
            moved = [text for text in warnings if not NOTHING_MATCHES.match(text)]
            assert len(moved) <= 1 and all(map(WARNED.match, moved))


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Generator[Builder]:
    where = tmp_path_factory.mktemp("moving")
    if BUSYBOX is not None:
        make_base(Pybuild(where / "store"), where / "base", "base")
    made = Builder(where / "store")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def pybuild(builder: Builder) -> Pybuild:
    return Pybuild(builder.store)


def context_of(tmp_path: Path, dockerfile: str) -> Path:
    context = write(tmp_path / "c", Dockerfile=dockerfile, f="f", **{"d/g": "g", "d/h/g": "g"})
    (context / "big").write_bytes(bytes(4 << 20))
    return context


# --- each movement, by the Python API -------------------------------------------------------------


@pytest.mark.parametrize("dockerfile", [COPY_ALL, COPY_EACH], ids=["all", "parts"])
@pytest.mark.parametrize("movement", MOVEMENTS, ids=lambda movement: movement.name)
def test_a_moving_context_is_built_and_leaves_no_false_memory(
    builder: Builder, tmp_path: Path, movement: Movement, dockerfile: str
) -> None:
    context = context_of(tmp_path, dockerfile)
    with moving(context, movement):
        for _ in range(2):
            builder.is_fair(context, movement)
    assert builder.build(context, tmp_path / "out") == []
    if dockerfile == COPY_ALL:
        assert tree(tmp_path / "out/c") == tree(context)
    else:
        assert tree(tmp_path / "out/c/d") == tree(context / "d")
        assert (tmp_path / "out/c/f").read_bytes() == (context / "f").read_bytes()


@pytest.mark.sandbox
@pytest.mark.skipif(BUSYBOX is None, reason="busybox is not installed (apt install busybox-static)")
@pytest.mark.parametrize("movement", MOVEMENTS[:6], ids=lambda movement: movement.name)
def test_a_step_mounts_a_moving_context(
    builder: Builder, tmp_path: Path, movement: Movement
) -> None:
    dockerfile = (
        "FROM base\nRUN --mount=type=bind,target=/ctx cp -r /ctx/d /ctx/f /etc/\n"
        "RUN --mount=type=bind,source=d,target=/d ls /d\n"
    )
    context = context_of(tmp_path, dockerfile)
    with moving(context, movement):
        for _ in range(2):
            builder.is_fair(context, movement)
    builder.build(context, tmp_path / "out")
    assert tree(tmp_path / "out/etc/d") == tree(context / "d")
    assert (tmp_path / "out/etc/f").read_bytes() == (context / "f").read_bytes()


def test_a_named_context_moves_too(builder: Builder, tmp_path: Path) -> None:
    main = write(tmp_path / "main", Dockerfile="FROM scratch\nCOPY --from=other . /c\n")
    context = context_of(tmp_path, "")
    with moving(context, ALL_AT_ONCE):
        builder.build(main, contexts={"other": str(context)})
    builder.build(main, tmp_path / "out", contexts={"other": str(context)})
    assert tree(tmp_path / "out/c") == tree(context)


def test_a_file_that_is_gone_is_not_found(builder: Builder, tmp_path: Path) -> None:
    context = context_of(tmp_path, "FROM scratch\nCOPY gone /\n")
    with (
        moving(context, ALL_AT_ONCE),
        pytest.raises(UserError, match='"gone" is not in the context'),
    ):
        builder.build(context)


# --- commands -------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--modes=git"], ["--no-cache"], ["-o", "type=cacheonly"]])
def test_the_log_of_a_build_may_lie_in_its_context(
    pybuild: Pybuild, tmp_path: Path, words: list[str]
) -> None:
    """``pybuild build . > build.log 2>&1``, which failed each time."""
    context = context_of(tmp_path, COPY_ALL)
    for _ in range(2):
        with (context / "build.log").open("wb") as log:
            done = subprocess.run(
                pybuild.command("build", *words, "."),
                cwd=context,
                stdout=log,
                stderr=log,
                env=pybuild.environment,
                timeout=120,
                check=False,
            )
        assert done.returncode == 0, (context / "build.log").read_text()


def test_the_command_line_leaves_no_memo_of_what_was_not_there(
    pybuild: Pybuild, tmp_path: Path
) -> None:
    context = context_of(tmp_path, COPY_ALL)
    with moving(context, ALL_AT_ONCE):
        for _ in range(2):
            done = pybuild("build", "-t", "moving", context)
            assert len(WARNED.findall(done.err)) <= 1, done.err
    assert "changes while" not in pybuild("build", "-o", tmp_path / "out", context).err
    assert tree(tmp_path / "out/c") == tree(context)


def test_two_builds_of_what_moves_are_verified_without_an_error(
    pybuild: Pybuild, tmp_path: Path
) -> None:
    """They are the same, or the file is named in which they are not; a still one is the same."""
    context = context_of(tmp_path, COPY_ALL)
    with moving(context, ALL_AT_ONCE):
        done = pybuild("verify", context, code=None)
    assert done.code in (0, 1)
    assert "error:" not in done.err
    if done.code:
        assert re.search(r"^ *\S*(/c/|c/)(f|big|d\b)", done.out, re.MULTILINE), done.out
    assert pybuild("verify", "-q", context).out.startswith("the same image twice: ")


def test_an_archive_that_grows_is_unpacked_as_it_was_or_refused(
    pybuild: Pybuild, tmp_path: Path
) -> None:
    """A context in a tar file that somebody else writes anew meanwhile, in place and by a rename."""
    context = context_of(tmp_path, COPY_ALL)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(context, ".")
    data = buffer.getvalue()
    archive = tmp_path / "context.tar"
    archive.write_bytes(data)

    def rewrite(_: Path, number: int) -> None:
        if number % 2:
            archive.write_bytes(data[: len(data) * (number % 7) // 7])
        else:
            new = tmp_path / "new.tar"
            new.write_bytes(data)
            new.replace(archive)

    with moving(context, Movement("an archive is written", rewrite)):
        for _ in range(2):
            with archive.open("rb") as file:
                done = subprocess.run(
                    pybuild.command("build", "-"),
                    stdin=file,
                    capture_output=True,
                    env=pybuild.environment,
                    timeout=120,
                    check=False,
                )
            assert b"Traceback" not in done.stderr, done.stderr
            assert done.returncode == 0 or b"error: " in done.stderr, done.stderr
    archive.write_bytes(data)
    pybuild("build", "-o", tmp_path / "out", "-", stdin=data)
    assert tree(tmp_path / "out/c") == tree(context)
