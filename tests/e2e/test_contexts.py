"""Contexts from elsewhere: archives, URLs, standard input, layouts [CTX-1, CTX-6, NC-1, IGN-2]."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
import zstandard

from tests.harness import Done, Pybuild, write
from tests.webservers import Site, site

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

DOCKERFILE = "FROM scratch\nCOPY . /\n"


@pytest.fixture
def web() -> Generator[Site]:
    with site() as served:
        yield served


def tar(*entries: tuple[str, str] | tarfile.TarInfo) -> bytes:
    """An archive of files, and of members that are no files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
                continue
            member = tarfile.TarInfo(entry[0])
            member.size, member.uid, member.mtime = len(entry[1]), 7, 1_000_000_000
            archive.addfile(member, io.BytesIO(entry[1].encode()))
    return out.getvalue()


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def files(directory: Path) -> dict[str, str]:
    found = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_text("latin-1") for path in found}


def built(pybuild: Pybuild, tmp_path: Path, *words: str | Path, **options: bytes) -> dict[str, str]:
    """The files of what a build gives."""
    out = tmp_path / "out"
    if out.exists():
        for path in sorted(out.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    pybuild("build", "-o", out, *words, stdin=options.get("stdin", b""))
    return files(out)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress, zstd])
def test_an_archive_on_standard_input_is_a_context(
    pybuild: Pybuild, tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    """CTX-1, and IGN-2: ignore files mean nothing there."""
    data = tar(("Dockerfile", DOCKERFILE), (".dockerignore", "a\n"), ("a", "1"), ("d/b", "2"))
    found = built(pybuild, tmp_path, "-", stdin=compress(data))
    assert found == {"Dockerfile": DOCKERFILE, ".dockerignore": "a\n", "a": "1", "d/b": "2"}


def test_an_archive_is_found_again_by_its_bytes(pybuild: Pybuild, tmp_path: Path) -> None:
    data = tar(("Dockerfile", "FROM scratch\nCOPY a /\n"), ("a", "1"))
    first = pybuild("build", "-t", "one", "-", stdin=data).err
    second = pybuild("build", "-t", "one", "-", stdin=data).err
    assert "CACHED" not in first
    assert "[1/1] COPY a /\n#4 CACHED" in second
    other = tar(("Dockerfile", "FROM scratch\nCOPY a /\n"), ("a", "2"))
    assert built(pybuild, tmp_path, "-", stdin=other) == {"a": "2"}


def test_another_dockerfile_of_an_archive(pybuild: Pybuild, tmp_path: Path) -> None:
    """BLD-2, IN-1."""
    data = tar(("sub/dockerfile", "FROM scratch\nCOPY a /lower\n"), ("a", "1"))
    assert built(pybuild, tmp_path, "-f", "sub/Dockerfile", "-", stdin=data) == {"lower": "1"}
    failed = pybuild("build", "-", stdin=data, code=1).err
    assert "failed to read dockerfile: open Dockerfile: no such file or directory" in failed


def test_a_dockerfile_of_ours_for_a_context_from_elsewhere(
    pybuild: Pybuild, tmp_path: Path
) -> None:
    """CTX-6: an absolute path is ours."""
    ours = tmp_path / "ours"
    ours.write_text("FROM scratch\nCOPY a /ours\n")
    data = tar(("a", "1"))
    assert built(pybuild, tmp_path, "-f", ours, "-", stdin=data) == {"ours": "1"}


def test_a_dockerfile_on_standard_input_has_an_empty_context(
    pybuild: Pybuild, tmp_path: Path
) -> None:
    """CTX-1"""
    assert built(pybuild, tmp_path, "-", stdin=b"FROM scratch\nCOPY <<a /a\nx\na\n") == {"a": "x\n"}
    failed = pybuild("build", "-", stdin=b"FROM scratch\nCOPY a /a\n", code=1).err
    assert '"/a" is not there' in failed
    both = pybuild("build", "-f", "-", "-", stdin=b"FROM scratch\n", code=1).err
    assert "can't use stdin for both build context and dockerfile" in both
    twice = pybuild("build", "-f", "x", "-", stdin=b"FROM scratch\n", code=1).err
    assert "ambiguous Dockerfile source" in twice


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("../../evil", "x")], "lies outside of the destination"),
        ([link("Dockerfile", "/etc/hostname")], "open Dockerfile: no such file"),
        ([link("Dockerfile", "etc", tarfile.SYMTYPE), ("etc/x", "")], "not a regular file"),
        ([link("x", "/etc/passwd", tarfile.LNKTYPE)], "which is not there"),
        ([link("Dockerfile", "", tarfile.FIFOTYPE)], "not a regular file"),
    ],
)
def test_hostile_archives_do_not_leave_the_context(
    pybuild: Pybuild, entries: list[tuple[str, str] | tarfile.TarInfo], message: str
) -> None:
    failed = pybuild("build", "-", stdin=tar(*entries), code=1).err
    assert message in failed


def test_a_damaged_archive_fails_the_build(pybuild: Pybuild) -> None:
    data = gzip.compress(tar(("Dockerfile", DOCKERFILE), ("a", "1" * 50_000)))
    failed = pybuild("build", "-", stdin=data[:-40], code=1).err
    assert "cannot unpack" in failed


def test_an_archive_by_http(pybuild: Pybuild, web: Site, tmp_path: Path) -> None:
    """CTX-1, ADD-6: asked for each time, fetched when it changed."""
    web.files["/c.tgz"] = gzip.compress(tar(("Dockerfile", "FROM scratch\nCOPY a /\n"), ("a", "1")))
    url = f"{web.url}/c.tgz"
    pybuild("build", "-t", "app", url)
    assert "CACHED" in pybuild("build", "-t", "app", url).err
    assert len(web.asked) == 2
    web.files["/c.tgz"] = gzip.compress(tar(("Dockerfile", "FROM scratch\nCOPY a /\n"), ("a", "2")))
    assert built(pybuild, tmp_path, url) == {"a": "2"}
    missing = pybuild("build", f"{web.url}/nothing.tgz", code=1).err
    assert "invalid response status 404" in missing


def test_a_single_dockerfile_by_http_is_its_own_context(
    pybuild: Pybuild, web: Site, tmp_path: Path
) -> None:
    """CTX-1"""
    text = "FROM scratch\nCOPY context /me\n"
    web.files["/x/Dockerfile"] = text.encode()
    assert built(pybuild, tmp_path, f"{web.url}/x/Dockerfile") == {"me": text}
    checked = pybuild("build", "--check", f"{web.url}/x/Dockerfile").out
    assert "no warnings" in checked
    targets = pybuild("build", "--call=targets,format=json", f"{web.url}/x/Dockerfile").out
    assert json.loads(targets)["targets"][0]["default"] is True


def test_a_dockerfile_from_a_url_and_a_context_of_ours(
    pybuild: Pybuild, web: Site, tmp_path: Path
) -> None:
    """IN-1; a memo would not see that the URL holds something else now."""
    web.files["/D"] = b"FROM scratch\nCOPY a /one\n"
    context = write(tmp_path / "ctx", **{"a": "1", "b": "2", ".dockerignore": "b\n"})
    words = ("-t", "app", "-f", f"{web.url}/D", context)
    pybuild("build", *words)
    pybuild("build", *words)
    web.files["/D"] = b"FROM scratch\nCOPY . /two/\n"
    assert "COPY . /two/" in pybuild("build", *words).err
    found = built(pybuild, tmp_path, "-f", f"{web.url}/D", context)
    assert found == {"two/a": "1", "two/.dockerignore": "b\n"}


def test_errors_in_a_fetched_dockerfile_show_its_lines(pybuild: Pybuild, web: Site) -> None:
    """IN-5"""
    web.files["/D"] = b"FROM scratch\nCOPPY a b\n"
    failed = pybuild("build", f"{web.url}/D", code=1).err
    assert "unknown instruction: COPPY (did you mean COPY?)" in failed
    assert ">>> COPPY a b" in failed


def test_a_changed_url_of_add_is_seen_by_the_next_build(
    pybuild: Pybuild, web: Site, tmp_path: Path
) -> None:
    """ADD-6 and the memo: same Dockerfile, same context, another answer."""
    web.files["/f"] = b"1"
    context = write(tmp_path / "ctx", Dockerfile=f"FROM scratch\nADD {web.url}/f /\n")
    first = pybuild("build", "-q", "-t", "app", context).out
    assert pybuild("build", "-q", "-t", "app", context).out == first
    web.files["/f"] = b"2"
    assert pybuild("build", "-q", "-t", "app", context).out != first
    assert len(web.asked) == 4, "once, for its head when it was the same, twice when it was not"


def test_how_files_of_add_are_named_and_left_alone(
    pybuild: Pybuild, web: Site, tmp_path: Path
) -> None:
    """E145, E146, ADD-4."""
    archive = tar(("in", "x"))
    web.files |= {"/x/a.tar": archive, "/": b"1", "/x/a": b"2"}
    text = (
        "FROM scratch\n"
        f"ADD {web.url}/x/a.tar {web.url}/ {web.url}/x/a?b=c /d/\n"
        f"ADD --unpack=true {web.url}/x/a.tar /e/\n"
    )
    built(pybuild, tmp_path, write(tmp_path / "ctx", Dockerfile=text))
    out = tmp_path / "out"
    assert (out / "d/a.tar").read_bytes() == archive
    assert (out / "d/a.tar").stat().st_mode & 0o7777 == 0o600
    assert (out / "d/__unnamed__").read_text() == "1"
    assert (out / "d/a").read_text() == "2"
    assert (out / "e/in").read_text() == "x"


def test_a_file_with_a_checksum_is_not_asked_for_again(
    pybuild: Pybuild, web: Site, tmp_path: Path
) -> None:
    """ADD-5: a hit needs no network."""
    web.files["/f"] = b"1"
    checksum = "sha256:6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
    text = f"FROM scratch\nADD --checksum={checksum} {web.url}/f /\n"
    context = write(tmp_path / "ctx", Dockerfile=text)
    for _ in range(2):
        pybuild("build", "-t", "app", context)
    assert len(web.asked) == 1


def test_credentials_for_http_come_from_secrets(
    pybuild: Pybuild, web: Site, tmp_path: Path
) -> None:
    """ADD-6, SEC-3."""
    web.authorization = "Bearer t0p"
    web.files["/c.tar"] = tar(("Dockerfile", "FROM scratch\nCOPY a /\n"), ("a", "1"))
    token = tmp_path / "token"
    token.write_text("t0p\n")
    secret = f"id=HTTP_AUTH_TOKEN_127.0.0.1,src={token}"
    assert built(pybuild, tmp_path, "--secret", secret, f"{web.url}/c.tar") == {"a": "1"}
    refused = pybuild("build", f"{web.url}/c.tar", code=1).err
    assert "invalid response status 401" in refused


def test_a_proxy_of_the_environment_is_used(pybuild: Pybuild, web: Site) -> None:
    """BLD-28: as registries do; loopback is never asked through it."""
    web.files["/D"] = b"FROM scratch\nCOPY context /\n"
    context = "http://dockerfiles.example/D"
    pybuild("build", context, env={"http_proxy": web.url})
    assert web.asked[0][0] == "/D"
    nowhere = {"http_proxy": "http://127.0.0.1:1"}
    pybuild("build", f"{web.url}/D", env=nowhere)


def test_named_contexts_by_http_and_from_directories(
    pybuild: Pybuild, web: Site, tmp_path: Path
) -> None:
    """NC-1, IGN-2."""
    web.files["/f"] = b"1"
    other = write(tmp_path / "other", **{"a": "2", "b": "3", ".dockerignore": "b\n"})
    text = "FROM scratch\nCOPY --from=web context /f\nCOPY --from=dir . /dir/\n"
    context = write(tmp_path / "ctx", Dockerfile=text)
    words = ("--build-context", f"web={web.url}/f", "--build-context", f"dir={other}", context)
    expected = {"f": "1", "dir/a": "2", "dir/.dockerignore": "b\n"}
    assert built(pybuild, tmp_path, *words) == expected
    web.files["/f"] = b"changed"
    assert built(pybuild, tmp_path, *words)["f"] == "changed"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("ftp://x/y", "unsupported context source ftp for a"),
        ("target:x", "unsupported context source target for a"),
        ("./nowhere", 'path "./nowhere": no such directory'),
        ("docker-image://A:b:c", "named context a"),
    ],
)
def test_named_contexts_that_cannot_be(
    pybuild: Pybuild, tmp_path: Path, value: str, message: str
) -> None:
    """NC-6"""
    context = write(tmp_path / "ctx", Dockerfile="FROM a\n")
    done = pybuild("build", "--build-context", f"a={value}", context, code=1)
    assert message in done.err


# --- OCI layouts ----------------------------------------------------------------------------------


@pytest.fixture
def layout(pybuild: Pybuild, tmp_path: Path) -> Path:
    """A layout directory with two images: one:1 and two:latest, which are not in the store."""
    context = write(tmp_path / "made", Dockerfile="FROM scratch\nCOPY a /\nENV X=y\n", a="1")
    where = Pybuild(tmp_path / "elsewhere")
    where("build", "-t", "one:1", context)
    (context / "a").write_text("2")
    where("build", "-t", "two", context)
    return where.store  # a store is a layout


def inspect(done: Done) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads(done.out)
    return found


def test_an_image_of_a_layout_is_a_base(pybuild: Pybuild, layout: Path, tmp_path: Path) -> None:
    """NC-1, NC-5: with its config, by tag or digest, without any network."""
    context = write(tmp_path / "ctx", Dockerfile="FROM base\nCOPY b /\n", b="b")
    words = ("--build-context", f"base=oci-layout://{layout}:1", context)
    assert built(pybuild, tmp_path, *words) == {"a": "1", "b": "b"}
    pybuild("build", "-t", "app", *words)
    pybuild("inspect", "--check", "app")
    assert "X=y" in pybuild("inspect", "app").out
    index = json.loads((layout / "index.json").read_text())["manifests"]
    digests = {m["annotations"]["io.containerd.image.name"]: m["digest"] for m in index}
    two = next(digest for name, digest in digests.items() if "two" in name)
    words = ("--build-context", f"base=oci-layout://{layout}@{two}", context)
    assert built(pybuild, tmp_path, *words) == {"a": "2", "b": "b"}
    words = ("--build-context", f"base=oci-layout://{layout}", context)  # latest
    assert built(pybuild, tmp_path, *words) == {"a": "2", "b": "b"}


def test_another_image_under_a_layouts_tag_is_seen(
    pybuild: Pybuild, layout: Path, tmp_path: Path
) -> None:
    """KEY-3 and the memo."""
    context = write(tmp_path / "ctx", Dockerfile="FROM base\nCOPY b /\n", b="b")
    words = ("-q", "-t", "app", "--build-context", f"base=oci-layout://{layout}:1", context)
    first = pybuild("build", *words).out
    assert pybuild("build", *words).out == first
    made = tmp_path / "made"
    (made / "a").write_text("3")
    Pybuild(layout)("build", "-t", "one:1", made)
    assert pybuild("build", *words).out != first


def test_layouts_are_not_trusted(pybuild: Pybuild, layout: Path, tmp_path: Path) -> None:
    context = write(tmp_path / "ctx", Dockerfile="FROM base\nCOPY b /\n", b="b")

    def fails(value: str, code: int) -> str:
        words = ("-o", tmp_path / "o", "--build-context", f"base=oci-layout://{value}", context)
        return pybuild("build", *words, code=code).err

    assert "no image with the tag" in fails(f"{layout}:nope", 1)
    assert "is no OCI layout directory" in fails(str(tmp_path), 1)
    assert "has no image sha256:" in fails(f"{layout}@sha256:{'0' * 64}", 1)
    for blob in (layout / "blobs/sha256").iterdir():
        data = bytearray(blob.read_bytes())
        if not data.startswith(b"{"):
            data[-1] ^= 1
            blob.chmod(0o644)
            blob.write_bytes(data)
    assert "blob sha256:" in fails(f"{layout}:1", 3)
    for blob in (layout / "blobs/sha256").iterdir():
        blob.chmod(0o644)
        blob.write_bytes(blob.read_bytes() + b" ")
    assert "is damaged" in fails(f"{layout}:1", 3)
