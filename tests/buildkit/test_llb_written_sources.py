"""Our sources as messages, field by field, and back [remote-api 9]."""

from __future__ import annotations

import pytest

from pybuild.buildkit.llb.queries import LocalQuery
from pybuild.buildkit.llb.sources import write_git, write_http, write_local
from pybuild.buildkit.llb.write import WriteOptions
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.ops import (
    GitSource,
    HttpSource,
    LocalSource,
    OciLayoutSource,
    Vertex,
)
from pybuild.model.platform import Platform
from tests.buildkit.vertices import IMAGE, comes_back, op_of


def test_images_and_layouts_are_written_with_their_digests() -> None:
    made = op_of(IMAGE)
    assert made.source.identifier == f"docker-image://docker.io/library/busybox:1@{Digest.of(b'm')}"
    assert (made.platform.OS, made.platform.Architecture) == ("linux", "amd64")
    digest = Digest.of(b"l")
    windows = Platform("windows", "amd64", "", "10.0.1")
    layout = Vertex(OciLayoutSource(path="/p", digest=digest, platform=windows))
    made = op_of(layout, WriteOptions(layouts={"/p": "shop"}))
    assert made.source.identifier == f"oci-layout://shop@{digest}"
    assert dict(made.source.attrs) == {"oci.store": "shop"}
    assert (made.platform.OS, made.platform.OSVersion) == ("windows", "10.0.1")


def test_a_directory_is_written_as_it_is_asked_for() -> None:
    source = Vertex(LocalSource(name="context", exclude=("a", "!b")))
    made = op_of(source).source
    assert made.identifier == "local://context"
    assert dict(made.attrs) == {
        "local.excludepatterns": '["a","!b"]',
        "local.sharedkeyhint": "context",
    }
    query = LocalQuery(
        dir_name="d", session="s", include=("i",), follow=("f",), shared_key="k", compare=False,
        metadata_only=True, metadata_except=("e",),
    )  # fmt: skip
    made = op_of(source, WriteOptions(locals={"context": query})).source
    assert made.identifier == "local://d"
    assert dict(made.attrs) == {
        "local.includepattern": '["i"]',
        "local.followpaths": '["f"]',
        "local.metadatatransferexclude": '["e"]',
        "local.session": "s",
        "local.sharedkeyhint": "k",
        "local.differ": "none",
        "local.metadatatransfer": "true",
    }
    assert dict(write_local(LocalQuery(dir_name="x")).attrs) == {}


def test_a_fetched_file_says_what_is_not_the_default() -> None:
    assert dict(write_http(HttpSource(url="https://e/f")).attrs) == {}
    digest = Digest.of(b"x")
    made = write_http(
        HttpSource(url="http://e/f", checksum=digest, filename="g", mode=0o755, uid=1, gid=2)
    )
    assert made.identifier == "http://e/f"
    assert dict(made.attrs) == {
        "http.checksum": digest,
        "http.filename": "g",
        "http.perm": "0755",
        "http.uid": "1",
        "http.gid": "2",
    }
    assert write_http(HttpSource(url="upload:abc")).identifier == "http://buildkit-session/abc"
    assert write_http(HttpSource(url="stdin:")).identifier == "http://buildkit-session/stdin"
    with pytest.raises(UserError, match=r'"ftp://e/f" is no http\(s\) URL'):
        write_http(HttpSource(url="ftp://e/f"))


@pytest.mark.parametrize(
    ("source", "identifier", "attrs"),
    [
        (GitSource(remote="http://h/r"), "git://h/r", {"git.fullurl": "http://h/r"}),
        (
            GitSource(remote="https://u:p@h:8/r/s.git", ref="v1", subdir="a/b"),
            "git://h:8/r/s.git#v1:a/b",
            {"git.fullurl": "https://u:p@h:8/r/s.git"},
        ),
        (
            GitSource(remote="git@h:o/r.git", subdir="d"),
            "git://h/o/r.git#:d",
            {"git.fullurl": "git@h:o/r.git", "git.mountsshsock": "default"},
        ),
        (
            GitSource(remote="SSH://u@h/r", known_hosts="k"),
            "git://h/r",
            {
                "git.fullurl": "SSH://u@h/r",
                "git.mountsshsock": "default",
                "git.knownsshhosts": "k",
            },
        ),
        (
            GitSource(
                remote="git://h/r", keep_git_dir=True, checksum="abc", submodules=False,
                mtime="commit", fetch_by_commit=True,
            ),
            "git://h/r",
            {
                "git.fullurl": "git://h/r", "git.keepgitdir": "true", "git.checksum": "abc",
                "git.skipsubmodules": "true", "git.mtime": "commit", "git.fetchbycommit": "true",
            },
        ),
    ],
)  # fmt: skip
def test_a_repository_is_written(source: GitSource, identifier: str, attrs: dict[str, str]) -> None:
    made = write_git(source)
    assert made.identifier == identifier
    given = dict(made.attrs)
    secrets = {given.pop("git.authheadersecret", ""), given.pop("git.authtokensecret", "")}
    assert given == attrs
    by_ssh = "git.mountsshsock" in attrs
    assert secrets == ({""} if by_ssh else {"GIT_AUTH_HEADER", "GIT_AUTH_TOKEN"})
    comes_back(Vertex(source))
