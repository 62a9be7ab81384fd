"""Texts that name contexts: their kinds, what is at hand, and the origin that a build is known by."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pybuild.builds.contextkinds import (
    ContextKind,
    git_context,
    is_at_hand,
    is_remote_name,
    kind_of,
    origin_of,
)
from pybuild.builds.request import BuildRequest
from pybuild.builds.standardinput import StandardInput
from pybuild.model.errors import UserError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _is_at_hand(request: BuildRequest, stdin: bytes) -> bool:
    reader, writer = os.pipe()
    os.write(writer, stdin)
    os.close(writer)
    try:
        return is_at_hand(request, StandardInput(reader))
    finally:
        os.close(reader)


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("Dockerfile"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("-", ContextKind.STANDARD_INPUT),
        ("there", ContextKind.DIRECTORY),
        ("not-there", ContextKind.DIRECTORY),
        ("github.com/owner/name", ContextKind.GIT),
        ("git@host.example:repository", ContextKind.GIT),
        ("https://host.example/r.git#v1:sub", ContextKind.GIT),
        ("https://host.example/context.tar", ContextKind.HTTP),
        ("http://host.example/", ContextKind.HTTP),
        ("ftp://host.example/", ContextKind.DIRECTORY),
    ],
)
def test_the_kind_of_a_context(here: Path, text: str, kind: ContextKind) -> None:
    (here / "there").mkdir()
    (here / "-").mkdir()
    assert kind_of(text) is kind


def test_a_directory_that_is_there_wins_over_a_repository(here: Path) -> None:
    (here / "github.com/owner/name").mkdir(parents=True)
    assert kind_of("github.com/owner/name") is ContextKind.DIRECTORY


def test_a_repository_is_read_as_a_context_or_refused() -> None:
    assert git_context("github.com/owner/name").remote == "https://github.com/owner/name"
    with pytest.raises(UserError, match='^invalid git context "https://host.example/x"$'):
        git_context("https://host.example/x")


@pytest.mark.parametrize(
    ("text", "is_remote"),
    [
        ("docker-image://alpine", True),
        ("target:base", True),
        ("input:base", True),
        ("git@host.example:r", True),
        ("there", False),
        ("not-there", False),
        ("target", False),
        ("target:there", False),
    ],
)
def test_a_named_context_that_is_no_directory_of_ours(
    here: Path, text: str, is_remote: bool
) -> None:
    (here / "there").mkdir()
    (here / "target:there").mkdir()
    assert is_remote_name(text) is is_remote


@pytest.mark.parametrize(
    ("context", "dockerfile", "stdin", "is_here"),
    [
        (".", "", b"", True),
        (".", "-", b"", True),
        (".", "other", b"", True),
        (".", "https://host.example/Dockerfile", b"", False),
        ("https://host.example/r.git", "", b"", False),
        ("https://host.example/x", "", b"", False),
        ("-", "", b"FROM scratch\n", True),
        ("-", "", _tar(), False),
        ("-", "-", _tar(), True),
    ],
)
def test_what_a_build_can_be_prepared_from_at_once(
    context: str, dockerfile: str, stdin: bytes, is_here: bool
) -> None:
    request = BuildRequest(context=context, dockerfile=dockerfile)
    assert _is_at_hand(request, stdin) is is_here


def test_a_text_stands_for_a_dockerfile_elsewhere() -> None:
    request = BuildRequest(
        context=".", dockerfile="https://host.example/Dockerfile", dockerfile_text=b"FROM scratch\n"
    )
    assert _is_at_hand(request, b"")


@pytest.mark.parametrize(
    ("change", "origin"),
    [
        ({"target": ""}, ("Dockerfile", "")),
        ({"target": "t"}, ("Dockerfile", "t")),
        ({"dockerfile": "{context}/sub/D"}, ("sub/D", "")),
        ({"dockerfile": "{context}/../D"}, ("../D", "")),
        ({"dockerfile_text": b""}, ("-", "")),
        ({"dockerfile": "x", "dockerfile_text": b""}, ("-", "")),
        ({"dockerfile": "http://h/D"}, ("http://h/D", "")),
    ],
)
def test_the_origin_of_a_directory_is_its_real_path_and_the_dockerfile_s_place_in_it(
    here: Path, change: dict[str, Any], origin: tuple[str, str]
) -> None:
    (here / "real").mkdir()
    (here / "link").symlink_to("real")
    for context in ("real", "link"):
        more = dict(change)
        if "dockerfile" in more:
            more["dockerfile"] = more["dockerfile"].format(context=here / context)
        request = BuildRequest(context=context, **more)
        assert origin_of(request) == (os.path.realpath("real"), *origin)


def test_the_origin_of_a_repository_is_the_same_at_whichever_commit() -> None:
    request = BuildRequest(context="https://me:secret@h.example/r.git#v1:sub", dockerfile="D")
    assert origin_of(request) == ("https://h.example/r.git", "D", "")
    assert origin_of(BuildRequest(context="-")) == ("-", "Dockerfile", "")
