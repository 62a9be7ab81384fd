"""Archives, layers and directories of very many entries, which must cost each entry the same.

``PYBUILD_MANY_ENTRIES=1000000`` makes it long; a million takes minutes, and did so with 40 MB.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pybuild.image.layer import tarformat
from pybuild.image.layer.apply import apply_job
from pybuild.image.layer.orders import UnpackOrder
from pybuild.model.border import WorkerCall
from pybuild.model.ops import Copy
from tests.executor.filetrees import Bench, needs_root

MANY = int(os.environ.get("PYBUILD_MANY_ENTRIES", "1000"))
FILE, HARD, LINK, DIR = b"0", b"1", b"2", b"5"

pytestmark = [pytest.mark.root, pytest.mark.slow, needs_root]


def _one_directory() -> Iterator[bytes]:
    for n in range(MANY):
        yield tarformat.entry(b"d/f%d" % n, FILE)


def _a_directory_each() -> Iterator[bytes]:
    for n in range(MANY):
        yield tarformat.entry(b"d/%d/f" % n, FILE)


def _one_name() -> Iterator[bytes]:
    for _ in range(MANY):
        yield tarformat.entry(b"f", FILE)


def _each_twice() -> Iterator[bytes]:
    yield from _one_directory()
    yield from _one_directory()


def _directories_then_files() -> Iterator[bytes]:
    for n in range(MANY):
        yield tarformat.entry(b"f%d/" % n, DIR, mode=0o755)
    for n in range(MANY):
        yield tarformat.entry(b"f%d" % n, FILE)


def _directories_then_links() -> Iterator[bytes]:
    for n in range(MANY):
        yield tarformat.entry(b"f%d/sub/" % n, DIR, mode=0o755)
    for n in range(MANY):
        yield tarformat.entry(b"f%d" % n, LINK, link=b"f%d/sub" % (n - 1))


def _names_of_one_file() -> Iterator[bytes]:
    yield tarformat.entry(b"first", FILE)
    for n in range(MANY):
        yield tarformat.entry(b"h%d" % n, HARD, link=b"first")


def _through_one_link() -> Iterator[bytes]:
    yield tarformat.entry(b"l", LINK, link=b"d")
    for n in range(MANY):
        yield tarformat.entry(b"l/f%d" % n, FILE)


# How many entries the result has.
SHAPES: dict[str, tuple[Callable[[], Iterator[bytes]], int]] = {
    "one directory": (_one_directory, MANY + 1),
    "a directory each": (_a_directory_each, 2 * MANY + 1),
    "one name": (_one_name, 1),
    "each twice": (_each_twice, MANY + 1),
    "directories, then files": (_directories_then_files, MANY),
    "directories, then links": (_directories_then_links, MANY),
    "names of one file": (_names_of_one_file, MANY + 1),
    "through one link": (_through_one_link, MANY + 2),
}


def _write(path: Path, shape: str) -> None:
    with path.open("wb") as file:
        file.writelines(SHAPES[shape][0]())
        file.write(tarformat.END)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_archive_of_many_entries_is_added(tmp_path: Path, shape: str) -> None:
    bench = Bench(tmp_path).delta({"etc/": None}).context({"a": ""})
    _write(tmp_path / "local1/a", shape)
    tree = bench.run(Copy(input=1, source="/a", dest="/d", unpack=True))
    assert len([path for path in tree if path.startswith("/d/")]) == SHAPES[shape][1]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_layer_of_many_entries_is_applied(tmp_path: Path, shape: str) -> None:
    _write(tmp_path / "blob", shape)
    target = tmp_path / "target"
    target.mkdir()
    apply_job(WorkerCall(), UnpackOrder(str(target), str(tmp_path / "blob"), lowers=[]))
    assert sum(len(names) + len(files) for _, names, files in os.walk(target)) == SHAPES[shape][1]


def test_a_directory_of_many_files_is_copied(tmp_path: Path) -> None:
    bench = Bench(tmp_path).delta({"etc/": None}).context({"d/": None})
    for n in range(MANY):
        (tmp_path / "local1/d" / f"f{n}").touch()
    tree = bench.run(Copy(input=1, source="/d", dest="/d"))
    assert len([path for path in tree if path.startswith("/d/")]) == MANY
