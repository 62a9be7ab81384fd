"""Dockerfiles and ignore files, found by name in a directory that anybody may have written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pybuild.builds import contextfiles
from pybuild.builds.contextfiles import inside, is_linked, read_named, real_path
from pybuild.model.errors import UserError

FAILED = "cannot read the Dockerfile"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    place = tmp_path / "context"
    (place / "sub").mkdir(parents=True)
    (place / "sub" / "Dockerfile").write_bytes(b"FROM scratch\n")
    (place / "near").symlink_to("sub/Dockerfile")
    (place / "through").symlink_to("sub")
    (tmp_path / "own").write_bytes(b"FROM own\n")
    (tmp_path / "linked").symlink_to("own")
    return place


def read(context: Path, path: Path) -> bytes | None:
    return read_named(str(path), str(context), FAILED)


def test_a_path_is_inside_where_it_is_written_so(context: Path, tmp_path: Path) -> None:
    (tmp_path / "other").symlink_to(context)
    assert inside(str(context), f"{context}/a/b") == "a/b"
    assert inside(f"{tmp_path}/other", f"{context}/a") == "a"
    assert inside(str(context), f"{context}x/a") is None
    assert inside(str(context), str(context)) is None
    assert inside("/", "/a") == "a"


def test_links_are_followed_inside_the_context_alone(context: Path, tmp_path: Path) -> None:
    for name in ("near", "through/Dockerfile", "sub/Dockerfile"):
        assert read(context, context / name) == b"FROM scratch\n"
    (context / "out").symlink_to(tmp_path / "own")
    with pytest.raises(UserError, match="is or passes a link to nothing inside the context"):
        read(context, context / "out")
    assert read(context, context / "nothing") is None
    assert read(context, tmp_path / "linked") == b"FROM own\n"
    assert read_named(str(tmp_path / "linked"), None, FAILED) == b"FROM own\n"


def test_what_is_no_regular_file_is_refused(context: Path, tmp_path: Path) -> None:
    os.mkfifo(context / "pipe")
    for name, kind in (("sub", "a directory"), ("pipe", "a named pipe")):
        with pytest.raises(UserError, match=f"{FAILED}: .*{name} is {kind}"):
            read(context, context / name)
    (tmp_path / "dangling").symlink_to("gone")
    with pytest.raises(UserError, match="a link to nothing"):
        read(context, tmp_path / "dangling")
    assert read(context, tmp_path / "gone") is None


def test_files_have_a_largest_size(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contextfiles, "MAX_DOCKERFILE_BYTES", 13)
    assert read(context, context / "near") == b"FROM scratch\n"
    (context / "large").write_bytes(b"FROM scratch\n\n")
    with pytest.raises(UserError, match="large: larger than 0 MiB"):
        read(context, context / "large")


def test_whether_a_path_passes_a_link(context: Path, tmp_path: Path) -> None:
    for path, expected in (
        (context / "near", True),
        (context / "through" / "Dockerfile", True),
        (context / "sub" / "Dockerfile", False),
        (context / "sub", False),
        (tmp_path / "linked", True),
        (tmp_path / "own", False),
    ):
        assert is_linked(str(path), str(context)) is expected, path
    assert is_linked(str(context / "near"), None)
    assert not is_linked(str(context / "through" / "Dockerfile"), None)  # only its own name counts


def test_the_real_path_is_free_of_links(context: Path, tmp_path: Path) -> None:
    assert real_path(str(context / "near"), str(context)) == f"{context}/sub/Dockerfile"
    assert real_path(str(tmp_path / "linked"), str(context)) == f"{tmp_path}/own"


def test_a_link_that_leads_out_of_the_context_is_named_and_a_loop_is_none(context: Path) -> None:
    (context / "loop").symlink_to("loop")
    for path in (context / "loop", context / "loop" / "Dockerfile"):
        with pytest.raises(UserError, match=FAILED):
            read(context, path)
    assert not is_linked(str(context / "gone" / "Dockerfile"), str(context))


def test_a_file_that_cannot_be_read_has_its_reason(context: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=f"^{FAILED}: open .*/file/x: not a directory$"):
        read(context, tmp_path / "file" / "x")


def test_a_pipe_is_read_where_it_is_no_file_of_the_context(context: Path) -> None:
    """As of ``-f <(…)``."""
    reader, writer = os.pipe()
    os.write(writer, b"FROM pipe\n")
    os.close(writer)
    try:
        assert read_named(f"/dev/fd/{reader}", str(context), FAILED) == b"FROM pipe\n"
    finally:
        os.close(reader)
