"""Sources that are not what they seem: zip archives, git LFS and filters, faults of the disk [CTX-1]."""

from __future__ import annotations

import errno
import io
import os
import zipfile
from pathlib import Path

import pytest

from pybuild.executor.files import archives, copying, unpack
from pybuild.executor.zygote.faults import Fault
from pybuild.model.errors import UserError
from pybuild.model.ops import Copy, GitSource, Mkdir
from tests.executor.filetrees import Bench, needs_root
from tests.executor.sourcesites import SourceSite, on_site
from tests.gitservers import Repository, need_git
from tests.gitservers import http_backend as git_over_http
from tests.harness import Pybuild, write
from tests.security.archivemembers import f, pack
from tests.security.archives import read_tree
from tests.webservers import serving, site


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("Dockerfile", "FROM scratch\nCOPY . /\n")
        archive.writestr("../../evil", "evil")
    return out.getvalue()


# --- zip ------------------------------------------------------------------------------------------


@pytest.mark.sandbox
@pytest.mark.slow
def test_a_zip_is_copied_and_no_context(tmp_path: Path) -> None:
    pybuild = Pybuild(tmp_path / "store")
    context = write(
        tmp_path / "c", Dockerfile="FROM scratch\nADD a.zip /d/\nADD --unpack a.zip /e/\n"
    )
    (context / "a.zip").write_bytes(zipped())
    pybuild("build", "-o", f"type=tar,dest={tmp_path}/out.tar", context)
    assert {"/d/a.zip", "/e/a.zip"} == {p for p in read_tree(tmp_path / "out.tar") if "." in p}
    with site() as web:
        web.files["/c.zip"] = zipped()
        for words, stdin in ((("build", "-"), zipped()), (("build", f"{web.url}/c.zip"), b"")):
            done = pybuild(*words, stdin=stdin, code=None)
            assert done.code
            assert "error: the build context is a zip archive, which cannot be unpacked" in done.err
            assert "hint: make it a tar archive" in done.err


@pytest.mark.parametrize("head", [b"PK\x03\x04", zipped()[:512]])
def test_a_zip_is_known_by_its_beginning(head: bytes) -> None:
    with pytest.raises(UserError, match="zip archive"):
        archives.is_archive(head)
    assert not archives.is_archive(b"PK is no instruction")


# --- git ------------------------------------------------------------------------------------------

_POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 12\n"
_ATTRIBUTES = {
    "lfs": "*.bin filter=lfs diff=lfs merge=lfs -text\n",
    "a filter of its own": "*.bin filter=evil\n",
    "a macro": "[attr]evil filter=evil diff=evil merge=evil\n*.bin evil\n",
    "line ends": "*.bin text eol=crlf ident\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("attributes", _ATTRIBUTES.values(), ids=_ATTRIBUTES)
def test_a_repository_names_no_program_that_runs(tmp_path: Path, attributes: str) -> None:
    """Pointers of LFS stay what they are, as with the peers; a tree's settings are text."""
    need_git()
    outside = tmp_path / "outside"
    evil = f"touch {outside}; cat"
    config = f'[filter "evil"]\nsmudge = {evil}\nprocess = {evil}\nrequired\n[core]\nfsmonitor = {evil}\n'
    repository = Repository(tmp_path / "base/r")
    repository.commit(
        {
            ".gitattributes": attributes,
            ".gitconfig": config,
            "config": config,
            ".git-config": config,
            ".lfsconfig": "[lfs]\nurl = http://127.0.0.1:1/\n",
            "x.bin": _POINTER,
        }
    )
    with serving(git_over_http(tmp_path / "base")) as url:

        async def body(place: SourceSite) -> None:
            for keep in (False, True):
                op = GitSource(remote=f"{url}/r", keep_git_dir=keep)
                tree = await place.tree(op)
                assert (tree / "x.bin").read_bytes().replace(b"\r", b"") == _POINTER.encode()

        on_site(tmp_path, body)
    assert not outside.exists()


# --- the disk -------------------------------------------------------------------------------------


@pytest.mark.root
@needs_root
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EDQUOT, errno.ENOSPC])
@pytest.mark.parametrize(
    "what", ["an archive's file", "an archive's owner", "a directory", "a copy"]
)
def test_faults_of_the_disk_name_what_was_being_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, number: int
) -> None:
    bench = Bench(tmp_path).delta({"etc/": None})
    bench.context({"a.tar": pack((f("x/f", "content"),)), "plain": "content"})

    def fail(*args: object, **options: object) -> int:
        raise OSError(number, os.strerror(number))

    action: Copy | Mkdir = Copy(input=1, source="/a.tar", dest="/d", unpack=True)
    expected = "/d/x/f"
    match what:
        case "an archive's file":
            monkeypatch.setattr("pybuild.executor.files.unpack.os.write", fail)
        case "an archive's owner":
            monkeypatch.setattr(unpack, "give", fail)
        case "a directory":
            monkeypatch.setattr("pybuild.executor.files.making.Maker.make", fail)
            action, expected = Mkdir(path="/made"), "/made"
        case _:
            monkeypatch.setattr(copying, "copy_content", fail)
            action, expected = Copy(input=1, source="/plain", dest="/p"), "/p"
    with pytest.raises((Fault, RuntimeError)) as caught:
        bench.run(action)
    text = str(caught.value)
    assert expected in text and os.strerror(number).lower() in text.lower()
    if number in (errno.EDQUOT, errno.ENOSPC):
        assert isinstance(caught.value, Fault)
        assert caught.value.hints == (
            "run pybuild prune",
            "put the store elsewhere with PYBUILD_ROOT",
        )
