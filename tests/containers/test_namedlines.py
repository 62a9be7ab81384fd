"""Words about containers as people write them: files of variables, and ``CONTAINER:PATH`` [CTR-85]."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybuild.containers.namedlines import container_place, lines_of
from pybuild.model.errors import UsageError


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("web:/a", ("web", "/a")), ("web:", ("web", "")), ("web:a:b", ("web", "a:b")),
        ("web", ("", "web")), (":/a", ("", ":/a")), ("/a:b", ("", "/a:b")),
        ("./a:b", ("", "./a:b")), ("../a:b", ("", "../a:b")), (".a:b", ("", ".a:b")),
    ],
)  # fmt: skip
def test_a_place_is_in_a_container_or_here(text: str, place: tuple[str, str]) -> None:
    assert container_place(text) == place


def test_files_of_words_have_comments(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# one\n\nA=b\n  # two\n\tB= c \nC\n")
    assert lines_of(str(file)) == ["A=b", "B= c ", "C"]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    with pytest.raises(UsageError) as caught:
        lines_of(missing)
    assert caught.value.message == f"{missing}: no such file or directory"
    (tmp_path / "binary").write_bytes(b"\xff")
    with pytest.raises(UsageError) as caught:
        lines_of(str(tmp_path / "binary"))
    assert caught.value.message.startswith(f"{tmp_path}/binary: 'utf-8' codec can't decode")
