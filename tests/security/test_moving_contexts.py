"""Contexts that do not keep still: what is digested, copied and remembered is one and the same.

Each attempt moves files under a build that goes on. The build passes, or says that what it needs is not
there; and when the movement has ended, no build is answered with bytes that are there no more.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness import BUSYBOX, Done, Pybuild, make_base, write

pytestmark = pytest.mark.slow

COPY_ALL = "FROM scratch\nCOPY . /c\n"
COPY_EACH = (
    "FROM scratch\nCOPY d /c/d\nCOPY f* /c/\nCOPY --parents d/**/g /p/\nCOPY Dockerfile /x\n"
)


@dataclass(frozen=True)
class Movement:
    """Something that happens again and again beside a build.

    Attributes:
        once: does it, in the context; the number says how often it was done.
        may_be_missing: it takes away what is copied by name.
    """

    name: str
    once: Callable[[Path, int], object]
    may_be_missing: bool = False


def _append(context: Path, _number: int) -> None:
    with (context / "f").open("ab") as file:
        file.write(b"more and more\n" * 1000)


def _shrink(context: Path, number: int) -> None:
    os.truncate(context / "big", (number % 9) << 20)


def _rewrite(context: Path, number: int) -> None:
    with (context / "f").open("r+b") as file:
        file.write(b"%d" % (number % 2))


def _replace(context: Path, number: int) -> None:
    (context / "new").write_text(str(number))
    (context / "new").replace(context / "f")


def _come_and_go(context: Path, number: int) -> None:
    (context / f"d/{number % 7}").write_text(str(number))
    (context / f"d/{(number + 3) % 7}").unlink(missing_ok=True)


def _directory_comes_and_goes(context: Path, number: int) -> None:
    if number % 2:
        os.makedirs(context / "d/deep/er", exist_ok=True)
        (context / "d/deep/er/g").write_text("g")
    else:
        (context / "d/deep/er/g").unlink(missing_ok=True)
        for name in ("d/deep/er", "d/deep"):
            if (context / name).is_dir():
                (context / name).rmdir()


def _link_for_a_file(context: Path, number: int) -> None:
    (context / "new").symlink_to("/etc/passwd" if number % 2 else "Dockerfile")
    (context / "new").replace(context / "f")
    if number % 3 == 0:
        (context / "new").write_text("a file")
        (context / "new").replace(context / "f")


def _link_for_a_directory(context: Path, number: int) -> None:
    os.rename(context / "d", context / "was")
    (context / "d").symlink_to("/etc" if number % 2 else "was")
    (context / "d").unlink()
    os.rename(context / "was", context / "d")


def _pipe_for_a_file(context: Path, number: int) -> None:
    (context / "f").unlink(missing_ok=True)
    if number % 2:
        os.mkfifo(context / "f")
    else:
        (context / "f").write_text("a file")


def _directory_for_a_file(context: Path, number: int) -> None:
    if number % 2:
        (context / "f").rmdir()
        (context / "f").write_text("a file")
    else:
        (context / "f").unlink()
        (context / "f").mkdir()


def _modes(context: Path, number: int) -> None:
    (context / "f").chmod(0o600 if number % 2 else 0o755)


def _times(context: Path, number: int) -> None:
    os.utime(context / "d/g", (number, number))


def _back_and_forth(context: Path, number: int) -> None:
    """Another file for a moment, then the old one, with its old times."""
    before = (context / "f").stat()
    (context / "f").write_text(f"for a moment {number}")
    (context / "f").write_text("f")
    os.utime(context / "f", ns=(before.st_atime_ns, before.st_mtime_ns))


MOVEMENTS = (
    Movement("a file grows", _append),
    Movement("a file shrinks and grows", _shrink),
    Movement("a file is written in place", _rewrite),
    Movement("a file is replaced by another", _replace),
    Movement("files come and go", _come_and_go),
    Movement("directories come and go", _directory_comes_and_goes),
    Movement("links and files trade places", _link_for_a_file, may_be_missing=True),
    Movement("a link stands for a directory", _link_for_a_directory, may_be_missing=True),
    Movement("pipes and files trade places", _pipe_for_a_file, may_be_missing=True),
    Movement("directories and files trade places", _directory_for_a_file),
    Movement("modes change", _modes),
    Movement("times change", _times),
    Movement("a file is another one for a moment", _back_and_forth),
)


@contextmanager
def moving(context: Path, movement: Movement) -> Generator[None]:
    """Do it until the block ends."""
    stop = threading.Event()
    failed: list[BaseException] = []

    def go_on() -> None:
        number = 0
        while not stop.is_set():
            try:
                movement.once(context, number)
            except BaseException as error:
                failed.append(error)
                raise
            number += 1
            if sum(entry.stat().st_size for entry in os.scandir(context)) > 1 << 28:
                time.sleep(0.1)  # the disk is not what is attacked

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not failed


@pytest.fixture
def pybuild(tmp_path: Path) -> Pybuild:
    return Pybuild(tmp_path / "store")


def context_of(tmp_path: Path, dockerfile: str) -> Path:
    context = write(tmp_path / "c", Dockerfile=dockerfile, f="f", **{"d/g": "g", "d/h/g": "g"})
    (context / "big").write_bytes(bytes(4 << 20))
    return context


def is_fair(done: Done, movement: Movement) -> None:
    """It passed, or said plainly what is not there."""
    if done.code and movement.may_be_missing:
        assert re.search(
            r"^error: .*(: not found|lstat |changes while it is read)", done.err, re.MULTILINE
        )
        return
    assert done.code == 0, done.err
    warned = re.findall(r'"/[^"]*" changes while it is read: the build has it', done.err)
    assert len(warned) == len(set(warned)) <= 1


def tree(root: Path) -> dict[str, tuple[int, bytes | str]]:
    return dict(_entries(root, ""))


def _entries(root: Path, prefix: str) -> Iterator[tuple[str, tuple[int, bytes | str]]]:
    for path in sorted(root.iterdir()):
        status = path.lstat()
        name = prefix + path.name
        if path.is_symlink():
            yield name, (0, os.readlink(path))
        elif path.is_dir():
            yield name, (status.st_mode, "")
            yield from _entries(path, name + "/")
        else:
            yield name, (status.st_mode, path.read_bytes() if path.is_file() else "")


@pytest.mark.parametrize("dockerfile", [COPY_ALL, COPY_EACH], ids=["all", "parts"])
@pytest.mark.parametrize("movement", MOVEMENTS, ids=lambda movement: movement.name)
def test_a_moving_context_is_built_and_leaves_no_false_memory(
    pybuild: Pybuild, tmp_path: Path, movement: Movement, dockerfile: str
) -> None:
    context = context_of(tmp_path, dockerfile)
    with moving(context, movement):
        for _ in range(2):
            is_fair(pybuild("build", "-t", "moving", context, code=None), movement)
    if (context / "f").is_dir() or (context / "f").is_fifo() or not (context / "f").exists():
        return
    still = pybuild("build", "-o", tmp_path / "out", context)
    assert "changes while" not in still.err
    if dockerfile == COPY_ALL:
        assert tree(tmp_path / "out/c") == tree(context)
    else:
        assert tree(tmp_path / "out/c/d") == tree(context / "d")
        assert (tmp_path / "out/c/f").read_bytes() == (context / "f").read_bytes()


@pytest.mark.parametrize("words", [["--modes=git"], ["--no-cache"], ["-o", "type=cacheonly"]])
def test_the_log_of_a_build_may_lie_in_its_context(
    pybuild: Pybuild, tmp_path: Path, words: list[str]
) -> None:
    """``pybuild build . > build.log 2>&1``, which failed each time."""
    context = context_of(tmp_path, COPY_ALL)
    for _ in range(3):
        with (context / "build.log").open("wb") as log:
            command = pybuild.command("build", *words, ".")
            done = subprocess_of(command, context, log.fileno(), pybuild.environment)
        assert done == 0, (context / "build.log").read_text()


def subprocess_of(command: list[str], cwd: Path, output: int, env: dict[str, str]) -> int:
    import subprocess

    return subprocess.run(
        command, cwd=cwd, stdout=output, stderr=output, env=env, timeout=120, check=False
    ).returncode


@pytest.mark.sandbox
@pytest.mark.skipif(BUSYBOX is None, reason="busybox is not installed")
@pytest.mark.parametrize("movement", MOVEMENTS[:6], ids=lambda movement: movement.name)
def test_a_step_mounts_a_moving_context(
    pybuild: Pybuild, tmp_path: Path, movement: Movement
) -> None:
    (tmp_path / "base").mkdir()
    make_base(pybuild, tmp_path / "base", "base")
    dockerfile = (
        "FROM base\nRUN --mount=type=bind,target=/ctx cp -r /ctx/d /ctx/f /etc/\n"
        "RUN --mount=type=bind,source=d,target=/d ls /d\n"
    )
    context = context_of(tmp_path, dockerfile)
    with moving(context, movement):
        for _ in range(2):
            is_fair(pybuild("build", "-t", "moving", context, code=None), movement)
    pybuild("build", "-o", tmp_path / "out", context)
    assert tree(tmp_path / "out/etc/d") == tree(context / "d")
    assert (tmp_path / "out/etc/f").read_bytes() == (context / "f").read_bytes()


def test_a_named_context_moves_too(pybuild: Pybuild, tmp_path: Path) -> None:
    main = write(tmp_path / "main", Dockerfile="FROM scratch\nCOPY --from=other . /c\n")
    context = context_of(tmp_path, "")
    with moving(context, MOVEMENTS[0]):
        pybuild("build", "--build-context", f"other={context}", main)
    pybuild("build", "--build-context", f"other={context}", "-o", tmp_path / "out", main)
    assert tree(tmp_path / "out/c") == tree(context)


def test_a_file_that_is_gone_is_not_found(pybuild: Pybuild, tmp_path: Path) -> None:
    context = context_of(tmp_path, "FROM scratch\nCOPY gone /\n")
    failed = pybuild("build", context, code=1).err
    assert '"/gone": not found' in failed
