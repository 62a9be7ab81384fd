"""The jobs of workers in the tree of a container, which is their root directory then [CTR-85]."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from pybuild.containers import treejobs
from pybuild.containers.treejobs import ContainerTree
from pybuild.model.border import WorkerCall


def tar_of(root: Path, path: str) -> tarfile.TarFile:
    """Return the result of reading in the tree of a container that runs, by a process of its own."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            fds = [write_end, os.open(root, os.O_PATH | os.O_DIRECTORY)]
            tree = ContainerTree("web", (), "", "", runs=True)
            treejobs.read(WorkerCall(fds, lambda _: None), tree, path, follow=False)
            status = 0
        finally:
            os._exit(status)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as file:
        data = file.read()
    assert os.waitpid(child, 0)[1] == 0
    return tarfile.open(fileobj=io.BytesIO(data))


@pytest.mark.root
def test_nothing_in_the_tree_is_asked_for_names_of_owners(tmp_path: Path) -> None:
    """Else the C library reads its nsswitch.conf, and loads and runs the libraries named there."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(f"planted:x:{os.geteuid()}:0::/:/bin/sh\n")
    (tmp_path / "etc/group").write_text("planted:x:0:\n")
    with tar_of(tmp_path, "/etc") as archive:
        assert sorted(archive.getnames()) == ["etc", "etc/group", "etc/passwd"]
        assert {(one.uname, one.gname) for one in archive} == {("", "")}


@pytest.mark.root
def test_a_name_keeps_the_dots_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "d...").mkdir()
    for path, name in (("/d...", "d..."), ("/d.../", "d..."), ("/d.../.", ".")):
        with tar_of(tmp_path, path) as archive:
            assert archive.getnames() == [name]
    with tar_of(tmp_path, "/") as archive:
        assert archive.getnames() == [".", "./d..."]


@pytest.mark.root
@pytest.mark.parametrize("path", ["/file/", "/file/."])
def test_a_file_is_no_directory(tmp_path: Path, path: str) -> None:
    """A slash at the end means a directory: a file is not given for it."""
    (tmp_path / "file").touch()
    with pytest.raises(AssertionError):  # the child refused
        tar_of(tmp_path, path)
