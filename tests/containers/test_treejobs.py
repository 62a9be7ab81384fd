"""The jobs of workers in the tree of a container, which is their root directory then [CTR-85]."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybuild.containers import treejobs
from pybuild.containers.treejobs import ContainerTree, PathFacts
from pybuild.executor.zygote.faults import USER, Fault
from pybuild.model.border import WorkerCall
from tests.executor.filetrees import in_child


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


Job = Callable[[WorkerCall, ContainerTree], Any]


def inside(root: Path, job: Job, data: bytes = b"") -> Any:
    """Return the answer of a job in the tree of a container that runs, which is given *data*."""

    def work() -> Any:
        read_end, write_end = os.pipe()
        os.write(write_end, data)
        os.close(write_end)
        fds = [read_end, os.open(root, os.O_PATH | os.O_DIRECTORY)]
        answer = job(WorkerCall(fds), ContainerTree("web", (), "", "", runs=True))
        return tuple(answer) if isinstance(answer, PathFacts) else answer

    return in_child(work)


def tar(*members: tuple[str, str | None], uid: int = 5) -> bytes:
    """Return an archive of files with texts, and of directories, which have none."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, text in members:
            info = tarfile.TarInfo(name)
            info.uid = info.gid = uid
            info.mode = 0o640
            if text is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o2770
            info.size = len(text or "")
            archive.addfile(info, io.BytesIO((text or "").encode()))
    return out.getvalue()


def refused(root: Path, job: Job, data: bytes = b"") -> str:
    with pytest.raises(Fault) as caught:
        inside(root, job, data)
    assert caught.value.kind == USER
    return str(caught.value)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a tree with a directory, a file, and links to both."""
    made = tmp_path / "root"
    (made / "d").mkdir(parents=True)
    (made / "d").chmod(0o750)
    (made / "file").write_text("text")
    (made / "file").chmod(0o604)
    os.utime(made / "file", ns=(1, 7_000_000_009))
    (made / "link").symlink_to("d")
    (made / "gone").symlink_to("nothing")
    (made / "etc").mkdir()
    (made / "etc/passwd").write_text("app:x:70:80::/:/bin/sh\n")
    return made


def look(path: str) -> Job:
    return lambda call, tree: treejobs.look(call, tree, path)


@pytest.mark.root
def test_a_look_at_a_path(root: Path) -> None:
    file = (4, stat.S_IFREG | 0o604, 7_000_000_009)
    assert inside(root, look("/file")) == ("file", *file, "")
    assert inside(root, look("file")) == ("file", *file, "")
    name, _, mode, _, target = inside(root, look("/link"))
    assert (name, stat.S_ISLNK(mode), target) == ("link", True, "/d")
    for path, last in (("/link/", "link"), ("/d", "d"), ("/d/.", "d"), ("/", "/")):
        name, _, mode, _, target = inside(root, look(path))
        assert (name, stat.S_ISDIR(mode), target) == (last, True, ""), path
    assert inside(root, look("/gone"))[4] == "/nothing"
    for path in ("/none", "/file/x", "/gone/", f"/{'a' * 300}", f"/{'a/' * 3000}"):
        assert refused(root, look(path)) == f"Could not find the file {path} in container web"
    for path in ("/file/", "/file/."):
        assert refused(root, look(path)) == f"{path}: not a directory"


def unpack(path: str, **options: Any) -> Job:
    given: dict[str, Any] = {"keeps_kinds": False, **options}
    return lambda call, tree: treejobs.unpack(call, tree, path, **given)


@pytest.mark.root
def test_an_archive_is_unpacked_with_its_owners_or_anothers(root: Path) -> None:
    inside(root, unpack("/link"), tar(("new", None), ("new/x", "there")))
    assert (root / "d/new/x").read_text() == "there"
    status = (root / "d/new/x").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (5, 5, 0o640)
    assert (root / "d/new").stat().st_mode & 0o7777 == 0o2770
    inside(root, unpack("/d", user="app"), tar(("new/x", "theirs")))
    status = (root / "d/new/x").stat()
    assert (status.st_uid, status.st_gid) == (70, 80)
    inside(root, unpack("/d"), b"")  # an archive of nothing
    assert sorted(os.listdir(root / "d")) == ["new"]


@pytest.mark.root
def test_an_archive_that_does_not_fit_is_refused(root: Path) -> None:
    one = tar(("x", "text"))
    assert refused(root, unpack("/none"), one) == "Could not find the file /none in container web"
    assert refused(root, unpack("/file"), one) == "extraction point is not a directory"
    assert refused(root, unpack("/d"), b"x" * 2000).startswith("the archive cannot be read: ")
    assert "nobody" in refused(root, unpack("/d", user="nobody"), one)
    assert os.listdir(root / "d") == []
    over = tar(("d", "a file"))
    assert "directory" in refused(root, unpack("/", keeps_kinds=True), over)
    assert (root / "d").is_dir()
    inside(root, unpack("/"), over)
    assert (root / "d").read_text() == "a file"


def write(path: str, *, into: bool = False) -> Job:
    return lambda call, tree: treejobs.write(call, tree, path, into=into)


@pytest.mark.root
def test_an_archive_is_put_in_its_place(root: Path) -> None:
    one = tar(("x", "text"))
    inside(root, write("/d"), one)
    assert (root / "d/x").read_text() == "text"
    assert ((root / "d/x").stat().st_uid, (root / "d/x").stat().st_mode & 0o777) == (5, 0o640)
    inside(root, write("/d/y"), one)
    assert (root / "d/y").read_text() == "text"
    inside(root, write("", into=True), tar(("first", None), ("first/second", "text")))
    assert (root / "second").read_text() == "text"
    assert refused(root, write("/d"), b"") == "the archive cannot be read: empty file"
    inside(root, write("/link", into=True), tar(("top", None), ("top/z", "deep")))
    assert (root / "d/z").read_text() == "deep"
    assert refused(root, write("/d"), b"x" * 2000).startswith("the archive cannot be read: ")
    for path in ("/none/", "/none/below", "/file/below"):
        refused(root, write(path), one)
    assert sorted(os.listdir(root / "d")) == ["x", "y", "z"]


@pytest.mark.root
def test_what_is_read_is_followed_or_not(root: Path) -> None:
    def read(path: str, *, follow: bool) -> list[str]:
        out = root.parent / "out"
        out.touch()

        def work() -> None:
            fds = [os.open(out, os.O_WRONLY | os.O_TRUNC), os.open(root, os.O_PATH)]
            tree = ContainerTree("web", (), "", "", runs=True)
            treejobs.read(WorkerCall(fds), tree, path, follow=follow)

        in_child(work)
        with tarfile.open(out) as archive:
            return [f"{one.name}{one.type.decode()}" for one in archive]

    assert read("/link", follow=False) == ["link2"]
    assert read("/link", follow=True) == ["link5"] == read("/link/", follow=False)
    for path in ("/none", "/file/x", "/gone/", f"/{'a' * 300}", f"/{'a/' * 3000}"):
        with pytest.raises(Fault) as caught:
            read(path, follow=False)
        assert str(caught.value) == f"Could not find the file {path} in container web"


@pytest.mark.root
@pytest.mark.sandbox
def test_changes_are_those_of_what_it_wrote(tmp_path: Path) -> None:
    lower, base, upper, mounts = (tmp_path / name for name in ("lower", "base", "upper", "mounts"))
    for made in (lower, base, upper, mounts):
        made.mkdir()
    for path in ("d/kept", "d/gone", "was", "changed"):
        (lower / path).parent.mkdir(exist_ok=True)
        (lower / path).touch()
    (base / "d2/x").mkdir(parents=True)
    for path in ("d/new", "was/y", "changed", "e/f", "d2/x/z"):
        (upper / path).parent.mkdir(parents=True, exist_ok=True)
        (upper / path).touch()
    for path in ("d/gone", "never"):
        os.mknod(upper / path, stat.S_IFCHR, os.makedev(0, 0))

    def changes(*lowers: Path) -> list[tuple[str, str]]:
        tree = ContainerTree("web", tuple(map(str, lowers)), str(upper), str(mounts))
        return [tuple(one) for one in in_child(lambda: treejobs.changes(WorkerCall(), tree))]

    assert changes(lower, base) == [
        ("C", "/changed"), ("C", "/d"), ("D", "/d/gone"), ("A", "/d/new"), ("C", "/d2"),
        ("C", "/d2/x"), ("A", "/d2/x/z"), ("A", "/e"), ("A", "/e/f"), ("C", "/was"), ("A", "/was/y"),
    ]  # fmt: skip
    assert {kind for kind, _ in changes()} == {"A"}
    assert ("A", "/d/new") in changes() and ("A", "/d/gone") not in changes()
    assert os.listdir(mounts) == []
