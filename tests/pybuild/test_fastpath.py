"""The fully cached path imports almost nothing, and says CACHED only when it is true."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybuild.builds import memo
from pybuild.commandline.parser import Parsed
from pybuild.executor.trees import contextscan
from tests.counting import relay
from tests.harness import Pybuild, make_base, write
from tests.registry.server.processes import process

HEAVY = {
    "_hashlib", "aiohttp", "argparse", "asyncio", "concurrent.futures", "dataclasses", "diskcache", "inspect",
    "lark", "logging", "networkx", "pathlib", "rich", "sqlite3", "ssl", "subprocess", "typing",
    "uvloop", "zstandard",
}  # fmt: skip

# What the path of today imports beyond a bare interpreter; a new line here must earn its place.
ALLOWED_OURS = {
    # the faces of rooms, a line each
    "pybuild", "pybuild.builds", "pybuild.cache", "pybuild.cache.disk", "pybuild.client", "pybuild.commandline",
    "pybuild.engine", "pybuild.executor", "pybuild.executor.trees", "pybuild.model",
    "pybuild.progress",
    # what is needed of them
    "pybuild.__main__", "pybuild.cache.disk.ownership", "pybuild.cache.disk.plainfile", "pybuild.cli",
    "pybuild.client.builders", "pybuild.commandline.building", "pybuild.model.options",
    "pybuild.commandline.parser", "pybuild.engine.paths", "pybuild.model.lightjson", "pybuild.executor.trees.contextscan",
    "pybuild.fastpath", "pybuild.builds.memo", "pybuild.model.package", "pybuild.model.patterns",
    "pybuild.progress.screen",
}  # fmt: skip


@pytest.mark.sandbox
@pytest.mark.slow
def test_a_fully_cached_build_imports_no_heavy_module(pybuild: Pybuild, tmp_path: Path) -> None:
    make_base(pybuild, tmp_path / "base", "base")
    context = write(tmp_path / "ctx", Dockerfile="FROM base\nCOPY a /\nRUN true\n", a="x")
    pybuild("build", "-t", "app", context)
    assert _modules_of(pybuild, "build", "-t", "app", str(context)) <= ALLOWED_OURS


@pytest.mark.sandbox
@pytest.mark.slow
def test_a_push_of_what_is_there_is_one_question(pybuild: Pybuild, tmp_path: Path) -> None:
    """issue 21, 0; once the registry has something else, all is pushed again."""
    make_base(pybuild, tmp_path / "base", "base")
    context = write(tmp_path / "ctx", Dockerfile="FROM base\nCOPY a /\nRUN true\n", a="x")
    other = write(tmp_path / "other", Dockerfile="FROM base\nLABEL a=b\n")
    with (
        process(tmp_path / "registry") as serving,
        relay(int(serving.host.partition(":")[2])) as way,
    ):
        words = ("build", "--push", "-t", f"127.0.0.1:{way.port}/app:1")
        pybuild(*words, context)
        before = way.sent
        more = {"pybuild.registry", "pybuild.registry.client", "pybuild.registry.client.standing"}
        assert _modules_of(pybuild, *words, str(context)) - ALLOWED_OURS == more
        assert way.sent - before < 400, "bytes of one HEAD"
        pybuild(*words, other)
        before = way.sent
        pybuild(*words, context)
        assert way.sent - before > 400, "the manifest is sent again"
        serving.kill()
        pybuild(*words, context, code=3)


def _modules_of(pybuild: Pybuild, *words: str) -> set[str]:
    """Return the modules of ours that a build loaded whose steps were all cached; it loads no heavy one."""
    script = (
        "import sys, json\n"
        "from pybuild.cli import main\n"
        "status = main(sys.argv[1:])\n"
        "print(json.dumps([status, sorted(sys.modules)]))\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {str(_root())!r})\n" + script,
            *words,
        ],
        env=pybuild.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    status, modules = json.loads(done.stdout)
    assert status == 0
    assert "CACHED" in done.stderr
    assert HEAVY.isdisjoint(modules)
    return {name for name in modules if name.startswith("pybuild")}


def _root() -> Path:
    return Path(__file__).resolve().parents[2]


def parsed(context: Path, **values: list[str]) -> Parsed:
    made = Parsed()
    made.positionals = [str(context)]
    made.values = {name.replace("_", "-"): value for name, value in values.items()}
    return made


def test_the_key_depends_on_what_the_build_does_not_on_how_it_is_told(tmp_path: Path) -> None:
    key = memo.key_of(parsed(tmp_path, tag=["a"]))
    assert key == memo.key_of(parsed(tmp_path, tag=["a"], progress=["plain"], quiet=["true"]))
    assert key != memo.key_of(parsed(tmp_path, tag=["b"]))
    assert key != memo.key_of(parsed(tmp_path, tag=["a"], target=["x"]))
    assert memo.key_of(parsed(tmp_path / "none")) is None


def test_a_build_argument_without_value_takes_the_environments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("V", "1")
    first = memo.key_of(parsed(tmp_path, build_arg=["V"]))
    monkeypatch.setenv("V", "2")
    assert first != memo.key_of(parsed(tmp_path, build_arg=["V"]))


def _settle(tree: Path) -> dict[str, object]:
    """Sign a tree that was made a moment ago: wait for the kernel's clock to tick."""
    end = time.monotonic() + 60
    while (signed := memo.sign_context(str(tree), [""], [])) is None:
        assert time.monotonic() < end
        time.sleep(0.02)
    return signed


def _relink(tree: Path) -> None:
    (tree / "l").unlink()
    (tree / "l").symlink_to("d")


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda tree: (tree / "a").write_text("y"),
    "mode": lambda tree: (tree / "a").chmod(0o600),
    "new file": lambda tree: (tree / "new").write_text(""),
    "file gone": lambda tree: (tree / "d/b").unlink(),
    "name": lambda tree: (tree / "d/b").rename(tree / "d/c"),
    "time": lambda tree: os.utime(tree / "a", ns=(1, 1)),
    "link target": _relink,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.slow
def test_any_change_in_a_context_breaks_its_signature(tmp_path: Path, change: str) -> None:
    tree = write(tmp_path / "t", **{"a": "x", "d/b": "z"})
    (tree / "l").symlink_to("a")
    signed = _settle(tree)
    assert memo.context_holds(signed)
    CHANGES[change](tree)
    assert not memo.context_holds(signed)


def test_a_build_is_signed_by_the_look_that_its_memo_did_not_hold_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = write(tmp_path / "t", a="x")
    signed = _settle(tree)
    later = time.time_ns() + 3_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: later)
    (tree / "a").write_text("y")
    looks: list[str] = []
    scan = contextscan.scan_signature

    def counting(path: str, *args: Any, **kwargs: Any) -> tuple[str, int]:
        looks.append(path)
        return scan(path, *args, **kwargs)

    monkeypatch.setattr(contextscan, "scan_signature", counting)
    assert not memo.context_holds(signed)
    first = memo.sign_context(str(tree), [""], [])
    assert looks == [str(tree)]
    # It is good for one build: the next one looks itself.
    assert memo.sign_context(str(tree), [""], []) == first != signed
    assert looks == [str(tree)] * 2


def test_a_file_of_the_same_size_and_mtime_is_still_seen_by_its_ctime(tmp_path: Path) -> None:
    tree = write(tmp_path / "t", a="x")
    stamp = (tree / "a").stat()
    signed = _settle(tree)
    (tree / "a").write_text("y")
    os.utime(tree / "a", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert not memo.context_holds(signed)


def test_a_damaged_memo_is_no_memo(tmp_path: Path) -> None:
    (tmp_path / "memo").mkdir()
    (tmp_path / "memo/k").write_bytes(b'{"format": 2, "files"')
    assert memo.load(str(tmp_path), "k") is None
    memo.save(str(tmp_path), "k", {"files": 7})
    found = memo.load(str(tmp_path), "k")
    assert found is not None
    assert not memo.holds(found, str(tmp_path))


@pytest.mark.sandbox
@pytest.mark.slow
def test_a_store_that_a_newer_pybuild_has_taken_over_is_not_answered_from(
    pybuild: Pybuild, tmp_path: Path
) -> None:
    make_base(pybuild, tmp_path / "base", "base")
    context = write(tmp_path / "ctx", Dockerfile="FROM base\nRUN true\n")
    for _ in range(2):
        pybuild("build", "-t", "app", context)
    (pybuild.store / "store.json").write_text('{"version": 99}')
    found = pybuild("build", "-t", "app", context, code=3)
    assert "made by a newer pybuild" in found.err
