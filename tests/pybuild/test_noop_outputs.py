"""A build that has nothing to do is answered from files alone, wherever its result goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pybuild.builds import memo, remembering
from tests.harness import Pybuild, make_base, write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

_TREES = Path(__file__).resolve().parents[2]
_SCRIPT = (
    "import sys, json\n"
    f"sys.path.insert(0, {str(_TREES)!r})\n"
    "from pybuild.cli import main\n"
    "status = main(sys.argv[1:])\n"
    "print(json.dumps([status, 'asyncio' in sys.modules]))\n"
)
OUTPUTS = {
    "oci": "type=oci,dest=out",
    "docker": "type=docker,dest=out",
    "tar": "type=tar,dest=out",
    "local": "type=local,dest=out",
    "bare directory": "out",
}


def needs_engine(pybuild: Pybuild, folder: Path, *args: str) -> bool:
    """Build from *folder*; whether more than the files that a memo names had to be looked at."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", _SCRIPT, "build", *args],
        env=pybuild.environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    status, has_engine = json.loads(done.stdout.splitlines()[-1])
    assert status == 0, done.stderr
    return bool(has_engine)


@pytest.fixture
def folder(pybuild: Pybuild, tmp_path: Path) -> Path:
    """A place to build from, with a context in it."""
    make_base(pybuild, tmp_path / "base", "base")
    write(tmp_path / "here/ctx", Dockerfile="FROM base\nRUN echo 1 >/made\nCOPY a /\n", a="x")
    return tmp_path / "here"


def content(path: Path) -> object:
    if path.is_file():
        return path.read_bytes()
    files = sorted(one for one in path.rglob("*") if one.is_file() and not one.is_symlink())
    return [(str(one.relative_to(path)), one.read_bytes()) for one in files]


def _first_file(path: Path) -> Path:
    return next(p for p in [path, *sorted(path.rglob("*"))] if p.is_file() and p.stat().st_size)


def _append(path: Path) -> None:
    with _first_file(path).open("ab") as file:
        file.write(b"more")


def _same_size(path: Path) -> None:
    """Write another byte at the end, and put the time back."""
    one = _first_file(path)
    times = one.stat()
    with one.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    os.utime(one, ns=(times.st_atime_ns, times.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], None]] = {"appended": _append, "same size": _same_size}


@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS)
def test_what_is_written_already_is_left_alone_and_what_was_changed_is_written_again(
    pybuild: Pybuild, folder: Path, output: str
) -> None:
    words = ("-o", output, "ctx")
    assert needs_engine(pybuild, folder, *words)
    out = folder / "out"
    first = content(out)
    assert not needs_engine(pybuild, folder, *words)
    for change in CHANGES.values():
        change(out)  # at once: within a tick of the kernel's clock of the last build's end
        assert needs_engine(pybuild, folder, *words)
        assert content(out) == first
        assert not needs_engine(pybuild, folder, *words)
    (folder / "ctx/a").write_text("y")
    assert needs_engine(pybuild, folder, *words)
    assert content(out) != first


def test_a_layout_that_lacks_a_blob_gets_it(pybuild: Pybuild, folder: Path) -> None:
    words = ("-o", "type=oci,tar=false,dest=out", "ctx")
    needs_engine(pybuild, folder, *words)
    first = content(folder / "out")
    assert not needs_engine(pybuild, folder, *words)
    _first_file(folder / "out").unlink()
    assert needs_engine(pybuild, folder, *words)
    assert content(folder / "out") == first


def test_a_relative_place_is_another_in_another_directory(pybuild: Pybuild, folder: Path) -> None:
    context = str(folder / "ctx")
    other = folder / "other"
    other.mkdir()
    for here in (folder, other):
        needs_engine(pybuild, here, "-o", "type=tar,dest=t.tar", context)
        assert not needs_engine(pybuild, here, "-o", "type=tar,dest=t.tar", context)
    assert content(folder / "t.tar") == content(other / "t.tar")


def test_several_outputs_are_all_looked_at(pybuild: Pybuild, folder: Path) -> None:
    words = ("-t", "app", "-o", "type=image", "-o", "type=tar,dest=t", "-o", "d", "ctx")
    needs_engine(pybuild, folder, *words)
    assert not needs_engine(pybuild, folder, *words)
    (folder / "d/made").unlink()
    assert needs_engine(pybuild, folder, *words)
    assert not needs_engine(pybuild, folder, *words)
    pybuild("rmi", "app")
    assert needs_engine(pybuild, folder, *words)
    assert pybuild("images", "-q", "app").out.strip()


def test_what_is_only_to_be_made_is_made_again_when_it_was_pruned(
    pybuild: Pybuild, folder: Path
) -> None:
    words = ("-o", "type=cacheonly", "ctx")
    needs_engine(pybuild, folder, *words)
    assert not needs_engine(pybuild, folder, *words)
    pybuild("prune", "-a", "-f")
    assert needs_engine(pybuild, folder, *words)


@pytest.mark.parametrize("output", ["type=tar,dest=-", "type=oci,dest=/dev/null"])
def test_what_leaves_no_file_is_written_each_time(
    pybuild: Pybuild, folder: Path, output: str
) -> None:
    context = str(folder / "ctx")
    sizes = [len(pybuild("build", "-o", output, context).out) for _ in range(2)]
    assert sizes[0] == sizes[1]
    assert (sizes[0] > 0) == output.endswith("-")


def test_files_of_results_are_written_by_a_memo_too(pybuild: Pybuild, folder: Path) -> None:
    words = ("-o", "type=oci,dest=o", "--metadata-file", "m", "--iidfile", "i", "ctx")
    needs_engine(pybuild, folder, *words)
    first = [content(folder / name) for name in "mi"]
    for name in "mi":
        (folder / name).unlink()
    assert not needs_engine(pybuild, folder, *words)
    assert [content(folder / name) for name in "mi"] == first


def test_a_directory_of_very_many_files_is_not_looked_through(
    pybuild: Pybuild, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "many", **{f"f{number}": "" for number in range(20)})
    monkeypatch.setattr(memo, "MOST_FILES", 20)
    assert memo.output_state(str(folder / "many"))[0]
    write(folder / "many", one_more="")
    with pytest.raises(ValueError, match="too many files"):
        memo.output_state(str(folder / "many"))
    assert remembering.settled_state(str(folder / "many")) is None
    assert remembering.settled_state("/dev/null") is None


@pytest.mark.parametrize("names", [(), ("-t", "app")], ids=["untagged", "named"])
@pytest.mark.parametrize(
    "output", [*OUTPUTS.values(), "type=cacheonly"], ids=[*OUTPUTS, "cacheonly"]
)
def test_the_last_line_is_that_of_the_build_that_wrote_it(
    pybuild: Pybuild, folder: Path, output: str, names: tuple[str, ...]
) -> None:
    """An image in a file is not one that is kept in the store."""

    def last() -> str:
        shown = pybuild("build", "--progress", "plain", "-o", output, *names, "ctx", cwd=folder).err
        line = shown.splitlines()[-1]
        return line if line.startswith(("image ", "untagged:")) else ""

    first = last()
    assert not first.startswith("untagged:")
    assert last() == first
