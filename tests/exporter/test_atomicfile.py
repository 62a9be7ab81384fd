"""Files that people name for results: whole or not at all, and never in a device's place."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from pybuild.client.files import archive_opener
from pybuild.exporter.atomicfile import whole_file
from pybuild.model.errors import UsageError
from tests.harness import Pybuild, write


def put(dest: str, data: bytes) -> None:
    with whole_file(dest) as fd:
        os.write(fd, data)


def put_by_server(dest: str, data: bytes) -> None:
    sink = archive_opener(dest)({})
    sink.write(data)
    sink.close()


@pytest.mark.parametrize("do", [put, put_by_server])
def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path, do: object) -> None:
    assert callable(do)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=do, args=(str(pipe), b"data"))
    writer.start()
    assert pipe.read_bytes() == b"data"
    writer.join(60)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert [entry.name for entry in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.parametrize("do", [put, put_by_server])
def test_a_link_is_followed(tmp_path: Path, do: object) -> None:
    assert callable(do)
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to("there/file")
    do(str(link), b"one")
    do(str(link), b"two")
    assert link.is_symlink()
    assert (tmp_path / "there/file").read_bytes() == b"two"
    (tmp_path / "there/file").unlink()
    (tmp_path / "there").rmdir()
    with pytest.raises(UsageError, match="there does not exist"):
        do(str(link), b"three")


def test_what_fails_leaves_the_file_of_before(tmp_path: Path) -> None:
    put(str(tmp_path / "f"), b"before")
    with pytest.raises(KeyError), whole_file(str(tmp_path / "f")) as fd:
        os.write(fd, b"half")
        raise KeyError
    assert [(e.name, e.read_bytes()) for e in tmp_path.iterdir()] == [("f", b"before")]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tar", "oci", "docker"])
def test_an_output_to_a_device_does_not_take_its_place(
    pybuild: Pybuild, tmp_path: Path, kind: str
) -> None:
    """A rename over the device would leave the machine without its /dev/null, where root does it."""
    if os.geteuid() != 0:
        pytest.skip("needs root, who may make devices")
    null, full = tmp_path / "null", tmp_path / "full"
    for path, minor in ((null, 3), (full, 7)):
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, minor))
    context = write(tmp_path / "c", Dockerfile="FROM scratch\nCOPY Dockerfile /\n")
    pybuild("build", "-o", f"type={kind},dest={null}", context)
    done = pybuild("build", "-o", f"type={kind},dest={full}", context, code=3)
    assert "no space left on device" in done.err
    for path in (null, full):
        assert stat.S_ISCHR(path.lstat().st_mode)
